/**
 * session-state: the state of the caller's own workbench session. A session of somebody else gets the same answer as one that does
 * not exist, on a hit and on a miss.
 */
import { readOwn, requireUser } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import { type FunctionDependencies, startFunction } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import { Problem } from '../_shared/http/problem.ts';

export interface SessionAnswer {
  readonly id: string;
  readonly user_id: string | null;
  readonly org_id: string | null;
  readonly status: string;
  readonly state: unknown;
  readonly updated_at: string;
}

const COLUMNS = 'id,user_id,org_id,status,state,updated_at';

export function createHandler(dependencies: FunctionDependencies): Handler {
  return createEndpoint({
    name: 'session-state',
    parameters: ['id'],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ request, readParameters, timing }) => {
      const caller = await timing.measure('auth', () => dependencies.authenticate(request));
      const owner = caller.kind === 'service' ? undefined : requireUser(caller).userId;
      const id = (await readParameters()).identifier('id');
      const { value, cache } = await readOwn<SessionAnswer>(
        { ...dependencies, caller, timing },
        keys.session(id),
        (client) => client.from('sessions').select(COLUMNS).eq('id', id).maybeSingle(),
        // Absence is not cached: the row may exist for somebody else.
        { isOwn: (row) => row.user_id === owner, storeAbsence: false },
      );
      if (value === null) {
        throw new Problem('SESSION_NOT_FOUND', 'You have no session with this id.', { cache });
      }
      return { body: value, cache };
    },
  });
}

export default { fetch: startFunction(createHandler) };
