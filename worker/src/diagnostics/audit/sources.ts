/**
 * What the database says now, for each key type that an audit can check: one statement that gives the value as the
 * reader caches it. A team adds a line for a type of its own; types without a line, and those whose tables the worker's
 * role may not read, are left out of the audit and named in its result.
 */
import type { TypeName } from '../../../../supabase/functions/_shared/cache/protocol/key-types.ts';

export interface AuditSource {
  /** The key's variable segments are its parameters, in order. Gives one column, `value`, as JSON; no row is null. */
  readonly sql: string;
}

export const AUDIT_SOURCES: Partial<Record<TypeName, AuditSource>> = {
  quota: { sql: `select public.quota_answer($1, $2, $3) -> 'value' as value` },
  usage: { sql: `select public.usage_answer($1, $2::date, $3::date) -> 'value' as value` },
  member: {
    sql: `select jsonb_build_object('role', role) as value from public.org_members where org_id = $1 and user_id = $2`,
  },
  session: {
    sql: `select to_jsonb(s) as value
            from (select id, user_id, org_id, status, state, updated_at from public.sessions where id = $1) as s`,
  },
  prefs: {
    sql: `select to_jsonb(p) as value
            from (select user_id, preferences from public.user_preferences where user_id = $1) as p`,
  },
  cost: {
    sql: `select jsonb_build_object('currency', currency, 'input_per_mtok', input_per_mtok::text,
                   'cached_input_per_mtok', cached_input_per_mtok::text, 'output_per_mtok', output_per_mtok::text) as value
            from public.model_prices where provider = $1 and model = $2`,
  },
};
