/** What sources have in common that get something by QEMU's own stream: all pages, or device state alone. */
import type { PagePlace } from '../../channels/page-placer.js';
import type { QemuStream } from '../qemu-stream.js';
import type { OutgoingSource, PlacedPages, SourceDevices, SourceSetup } from './migration-source.js';

export abstract class QemuStreamedSource implements OutgoingSource {
  constructor(protected readonly stream: QemuStream) {}

  abstract setup(signal: AbortSignal): Promise<SourceSetup>;
  abstract stop(signal: AbortSignal): Promise<number[]>;
  abstract devices(signal: AbortSignal): Promise<SourceDevices>;

  prepare(): void {
    this.stream.prepare();
  }

  place(where: PagePlace): void {
    this.stream.place(where);
  }

  downtimeMs(): number {
    return this.stream.downtimeMs();
  }

  placed(): PlacedPages {
    return this.stream.counters();
  }

  resume(): Promise<void> {
    return this.stream.resume();
  }

  cancel(): Promise<void> {
    return this.stream.cancel();
  }

  dispose(): Promise<void> {
    return this.stream.dispose();
  }
}
