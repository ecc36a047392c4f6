import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A directory that only this user may enter, for sockets; removed with all its contents when disposed. */
export class PrivateDirectory implements Disposable {
  readonly path = mkdtempSync(path.join(tmpdir(), 'mapram-'));

  /** The path of a file in it. */
  file(name: string): string {
    return path.join(this.path, name);
  }

  /** Gives it to another user, who alone may enter it then, beside root. Needs the right to (root). */
  letIn(user: number): void {
    chownSync(this.path, user, -1);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
