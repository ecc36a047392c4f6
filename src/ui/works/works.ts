/** The work that each request of the page means. */
import type { Work } from '../operations.js';
import { OperationRequest, parseRequest } from '../requests.js';
import { convertWork, diffWork } from './file-works.js';
import { forkWork, resumeWork } from './launch-works.js';
import type { Things } from './things.js';
import { restoreWork, saveWork, verifyWork } from './transfer-works.js';

/**
 * What a request to begin an operation means.
 *
 * @throws RequestError 400, and 404 for things that are not in the lists; MapramError `BUSY`
 */
export function workFor(body: unknown, things: Things): Work {
  const request = parseRequest(OperationRequest, body);
  return { ...meant(request, things), request };
}

function meant(request: ReturnType<typeof parseRequest<typeof OperationRequest>>, things: Things): Work {
  switch (request.kind) {
    case 'save':
      return saveWork(request, things);
    case 'restore':
      return restoreWork(request, things);
    case 'verify':
      return verifyWork(request, things);
    case 'resume':
      return resumeWork(request, things);
    case 'fork':
      return forkWork(request, things);
    case 'diff':
      return diffWork(request, things);
    case 'convert':
      return convertWork(request, things);
  }
}
