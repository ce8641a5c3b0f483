/**
 * user-preferences: the caller's own settings, merged over the defaults. The service may read anybody's.
 */
import type { Caller } from '../_shared/auth/authenticate.ts';
import { readOwn, requireUser } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import { type FunctionDependencies, startFunction } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import { Problem } from '../_shared/http/problem.ts';

export interface PreferencesAnswer {
  readonly user_id: string;
  /** The stored preferences over the defaults. */
  readonly preferences: Readonly<Record<string, unknown>>;
  /** True when nothing is stored for this user. */
  readonly is_default: boolean;
}

/** The preferences of a user who has stored none. A stored preference replaces the one of the same name. */
const DEFAULT_PREFERENCES = {
  theme: 'system',
  locale: 'en',
  default_model: null,
  notify_at_percent_used: 80,
} as const;

interface PreferencesRow {
  readonly user_id: string;
  readonly preferences: unknown;
}

export function createHandler(dependencies: FunctionDependencies): Handler {
  return createEndpoint({
    name: 'user-preferences',
    parameters: ['user'],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ request, readParameters, timing }) => {
      const caller = await timing.measure('auth', () => dependencies.authenticate(request));
      const parameters = await readParameters();
      const userId = userIdFor(caller, parameters.optionalIdentifier('user'));
      const { value, cache } = await readOwn<PreferencesRow>(
        { ...dependencies, caller, timing },
        keys.prefs(userId),
        (client) =>
          client.from('user_preferences').select('user_id,preferences').eq('user_id', userId).maybeSingle(),
        // Absence is cached: the key is of this user alone, so no row means the same for every caller.
        { isOwn: (row) => row.user_id === userId, storeAbsence: true },
      );
      return { body: answerFrom(userId, value), cache };
    },
  });
}

export default { fetch: startFunction(createHandler) };

/** @throws Problem FORBIDDEN when a user names somebody else, INVALID_PARAMETER when the service names nobody */
function userIdFor(caller: Caller, requested: string | undefined): string {
  if (caller.kind !== 'service') {
    const own = requireUser(caller).userId;
    if (requested !== undefined && requested !== own)
      throw new Problem('FORBIDDEN', 'These are not your preferences.');
    return own;
  }
  if (requested === undefined)
    throw new Problem('INVALID_PARAMETER', 'Say whose preferences.', { field: 'user' });
  return requested;
}

function answerFrom(userId: string, row: PreferencesRow | null): PreferencesAnswer {
  const stored = row?.preferences;
  const chosen = typeof stored === 'object' && stored !== null && !Array.isArray(stored) ? stored : {};
  return {
    user_id: userId,
    preferences: { ...DEFAULT_PREFERENCES, ...chosen },
    is_default: row === null,
  };
}
