/** Entry point of usage-summary. The function itself is handler.ts. */
import { startFunction } from '../_shared/function.ts';
import { createHandler } from './handler.ts';

export default { fetch: startFunction(createHandler) };
