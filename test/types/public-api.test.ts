/** Assertions about the types of the public API: the compiler checks them, and the names exist when it runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as mapram from '../../src/index.js';
import { MappedRamImage } from '../../src/mapped-ram/index.js';
import { Monitor } from '../../src/monitor/index.js';
import * as options from '../../src/options/index.js';
import { QmpClient } from '../../src/qmp/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles only where its argument is `true`. */
function holds<_Assertion extends true>(): void {}

test('what a user does takes one options object and gives a promise', () => {
  holds<Equal<Parameters<typeof mapram.save>, [options: mapram.SaveOptions]>>();
  holds<Equal<ReturnType<typeof mapram.save>, Promise<mapram.SaveResult>>>();
  holds<Equal<Parameters<typeof mapram.restore>, [options: mapram.RestoreOptions]>>();
  holds<Equal<ReturnType<typeof mapram.restore>, Promise<mapram.RestoreResult>>>();
  holds<Equal<ReturnType<typeof mapram.resume>, Promise<mapram.ResumedVm>>>();
  holds<Equal<ReturnType<typeof mapram.fork>, Promise<mapram.ForkedVms>>>();
  holds<Equal<ReturnType<typeof mapram.inspect>, Promise<mapram.Inspection>>>();
  holds<Equal<ReturnType<typeof mapram.verify>, Promise<mapram.VerifyResult>>>();
  for (const operation of [
    mapram.save,
    mapram.restore,
    mapram.resume,
    mapram.fork,
    mapram.inspect,
    mapram.verify,
  ])
    assert.equal(typeof operation, 'function');
});

test('they can be cancelled, and tell how far they are', () => {
  holds<Equal<mapram.SaveOptions['signal'], AbortSignal | undefined>>();
  holds<Equal<Parameters<NonNullable<mapram.SaveOptions['onProgress']>>, [event: mapram.ProgressEvent]>>();
  holds<Equal<mapram.SaveOptions['directIo'], 'auto' | 'on' | 'off' | undefined>>();
  holds<Equal<mapram.SaveResult['directIo'], boolean>>();
});

test('wrong options are refused by the compiler', () => {
  const _wrong = () => {
    // @ts-expect-error a file is needed
    void mapram.save({ vm: '/run/vm.qmp' });
    // @ts-expect-error not one of the choices
    void mapram.save({ vm: '/run/vm.qmp', file: 'vm.mapram', directIo: 'maybe' });
    // @ts-expect-error nothing is silently ignored
    void mapram.restore({ vm: '/run/vm.qmp', file: 'vm.mapram', bandwidth: 1 });
  };
});

test('errors tell programs what went wrong', () => {
  const error: unknown = new mapram.MapramError('NO_DIRECT_IO', 'refused', { path: '/tmp' });
  assert.ok(error instanceof mapram.MapramError, String(error));
  holds<Equal<typeof error.code, mapram.MapramErrorCode>>();
  holds<Equal<typeof error.path, string | undefined>>();
  const code: mapram.MapramErrorCode = error.code;
  // @ts-expect-error no such code
  assert.notEqual(code, 'OOPS' satisfies mapram.MapramErrorCode);
});

test('commands of QMP have typed arguments and results', () => {
  const _typed = async (client: QmpClient) => {
    const { status } = await client.execute('query-status');
    holds<Equal<typeof status extends string ? true : false, true>>();
    const parameters = await client.execute('query-migrate-parameters');
    holds<Equal<(typeof parameters)['direct-io'], boolean | undefined>>();
  };
});

test('options of a migration bear the names of QEMU', () => {
  const parameters = options.defaultParameters(options.qemuProfile('10.0'));
  holds<Equal<(typeof parameters)['direct-io'], boolean>>();
  holds<Equal<options.MigrationCapabilities['mapped-ram'], boolean>>();
  const capabilities = { ...options.defaultCapabilities(), 'mapped-ram': true, multifd: true };
  assert.equal(options.effectiveDirectIo({ ...parameters, 'direct-io': true }, capabilities), true);
});

test('what holds a resource is disposable', () => {
  type Disposables = [MappedRamImage, mapram.SavedVm, QmpClient, Monitor, mapram.BuiltinGuest];
  holds<Disposables[number] extends AsyncDisposable ? true : false>();
  for (const { prototype } of [MappedRamImage, QmpClient, Monitor, mapram.BuiltinGuest])
    assert.equal(typeof prototype[Symbol.asyncDispose], 'function');
});
