/** What `docker login` and `podman login` have kept for a registry: in `config.json`, or with a helper program that it names. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { errorReason, MapramError } from '../../errors.js';
import { hasErrno } from '../../io/system-error.js';

export interface RegistryLogin {
  readonly user: string;
  readonly password: string;
  /** Instead of a password: exchanged for an access token. */
  readonly identityToken?: string;
}

const ConfigSchema = v.object({
  auths: v.exactOptional(
    v.record(
      v.string(),
      v.object({ auth: v.exactOptional(v.string()), identitytoken: v.exactOptional(v.string()) }),
    ),
  ),
  credHelpers: v.exactOptional(v.record(v.string(), v.string())),
  credsStore: v.exactOptional(v.string()),
});

const AnswerSchema = v.object({ Username: v.string(), Secret: v.string() });

/** What a helper calls a user that has a token instead of a password. */
const TOKEN_USER = '<token>';
const HELPER_MS = 30_000;

/**
 * @param host of the registry, with its port
 * @returns undefined where nobody is logged in there
 * @throws MapramError `IO` for a file that cannot be read
 */
export async function registryLogin(host: string, env = process.env): Promise<RegistryLogin | undefined> {
  const file = path.join(env.DOCKER_CONFIG || path.join(homedir(), '.docker'), 'config.json');
  const config = readConfig(file);
  const helper = config?.credHelpers?.[host] ?? config?.credsStore;
  const helped = helper === undefined ? undefined : await askHelper(helper, host);
  return helped ?? fromFile(config, host);
}

function fromFile(
  config: v.InferOutput<typeof ConfigSchema> | undefined,
  host: string,
): RegistryLogin | undefined {
  const { auths = {} } = config ?? {};
  const entry =
    auths[host] ?? auths[`https://${host}`] ?? auths[`https://${host}/v2/`] ?? auths[`https://${host}/v1/`];
  if (entry === undefined) return undefined;
  const [, user = '', password = ''] =
    /^([^:]*):(.*)$/s.exec(Buffer.from(entry.auth ?? '', 'base64').toString()) ?? [];
  if (entry.identitytoken) return { user, password, identityToken: entry.identitytoken };
  return user === '' ? undefined : { user, password };
}

function readConfig(file: string): v.InferOutput<typeof ConfigSchema> | undefined {
  try {
    return v.parse(ConfigSchema, JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT', 'ENOTDIR')) return undefined;
    throw new MapramError('IO', `reading ${file}: ${errorReason(cause)}`, { path: file, cause });
  }
}

/** Undefined where the helper knows nothing of this host. */
function askHelper(helper: string, host: string): Promise<RegistryLogin | undefined> {
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const child = execFile(
      `docker-credential-${helper}`,
      ['get'],
      { timeout: HELPER_MS },
      (error, stdout) => {
        resolve(error === null ? answered(stdout) : undefined);
      },
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(host);
  });
}

function answered(text: string): RegistryLogin | undefined {
  try {
    const { Username: user, Secret: password } = v.parse(AnswerSchema, JSON.parse(text));
    return user === TOKEN_USER ? { user, password: '', identityToken: password } : { user, password };
  } catch {
    return undefined;
  }
}
