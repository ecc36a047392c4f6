/** A server of its own process: descriptor 3 is the device. Every byte of its one file is that of the offset; `never`: no read is answered. */
import { deferred } from '../../src/deferred.js';
import { FuseServer } from '../../src/fuse/fuse-server.js';

const [, , how] = process.argv;
const never = deferred<Uint8Array>();
const server = new FuseServer(
  3,
  {
    name: '',
    entries: [
      {
        name: 'bytes',
        bytes: 1 << 20,
        read: async (offset, length) => {
          process.stdout.write('read\n');
          if (how === 'never') return await never.promise;
          return Uint8Array.from({ length }, (_, index) => (offset + index) >> 12);
        },
      },
    ],
  },
  { timeMs: 0 },
);
process.stdout.write(server.resend() ? 'resent\n' : 'not resent\n');
await server.serve();
