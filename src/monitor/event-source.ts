import type { BackendEvent } from './backend.js';

/** Tells any number of listeners, in order. */
export class EventSource {
  readonly #listeners = new Set<(event: BackendEvent) => void>();

  subscribe(listener: (event: BackendEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(event: BackendEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
