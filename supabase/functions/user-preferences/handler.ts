/**
 * user-preferences: one's own settings over the defaults. The service may ask for anyone's.
 */
import type { Caller } from '../_shared/auth/authenticate.ts';
import { readOwn, signedIn } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import type { FunctionDependencies } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import { Problem } from '../_shared/http/problem.ts';

export interface PreferencesAnswer {
  readonly user_id: string;
  /** The stored preferences over the defaults. */
  readonly preferences: Readonly<Record<string, unknown>>;
  /** True when nothing is stored for this user. */
  readonly is_default: boolean;
}

/** What a user has who never chose. Stored preferences replace these one by one. */
export const DEFAULT_PREFERENCES = {
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
      const userId = whose(caller, parameters.optionalIdentifier('user'));
      const { value, cache } = await readOwn<PreferencesRow>(
        { ...dependencies, caller, timing },
        keys.prefs(userId),
        (client) =>
          client.from('user_preferences').select('user_id,preferences').eq('user_id', userId).maybeSingle(),
        // The key is the caller's own: finding nothing does mean that there is nothing.
        { isOwn: (row) => row.user_id === userId, storeAbsence: true },
      );
      return { body: answerFrom(userId, value), cache };
    },
  });
}

/** @throws Problem FORBIDDEN for a user who asks for someone else, INVALID_PARAMETER for a service that names nobody */
function whose(caller: Caller, asked: string | undefined): string {
  if (caller.kind !== 'service') {
    const own = signedIn(caller).userId;
    if (asked !== undefined && asked !== own)
      throw new Problem('FORBIDDEN', 'These are not your preferences.');
    return own;
  }
  if (asked === undefined)
    throw new Problem('INVALID_PARAMETER', 'Say whose preferences.', { field: 'user' });
  return asked;
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
