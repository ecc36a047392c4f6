import { type LazyLayout, readStatus } from './lazy-layout.js';

const LOOK_MS = 500;

/** Warns when the store of a snapshot from which VMs run cannot be reached, and says why its server has ended them. */
export class LazyWatch implements Disposable {
  readonly #timer: NodeJS.Timeout;
  #reported: string | undefined;

  constructor(
    private readonly layout: LazyLayout,
    private readonly onWarning: (message: string) => void,
  ) {
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  #look(): void {
    const status = readStatus(this.layout);
    if (status === undefined || status.state === this.#reported) return;
    const was = this.#reported;
    this.#reported = status.state;
    const { state, problem = 'no reason is known' } = status;
    if (state === 'offline') this.onWarning(`VMs wait for memory that cannot be fetched now: ${problem}`);
    else if (state === 'failed')
      this.onWarning(`VMs were ended since their memory cannot be fetched: ${problem}`);
    else if (was === 'offline') this.onWarning('the store answers again; the VMs continue');
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#look();
  }
}
