-- Replaces the engine before this one (statement triggers, the outbox a table) under load. former-engine.test.ts runs it. It is one
-- transaction, or writes between its steps would be captured by neither engine. `lock timeout` (a transaction that has read or written a
-- watched table is still open): nothing was changed, run it again. invalidate('*') settles what the former worker had not delivered.
begin;
set local lock_timeout = '200ms';
create temporary table former_watches on commit drop as table cache_invalidation.watches;
create temporary table former_answers on commit drop as table cache_invalidation.answer_sources;
do $$
begin
  execute (
    select coalesce(string_agg(format('drop event trigger %I', e.evtname), '; '), '')
    from pg_event_trigger as e join pg_proc as p on p.oid = e.evtfoid
    where p.pronamespace = 'cache_invalidation'::regnamespace);
end
$$;
alter schema cache_invalidation rename to former_cache_invalidation;
\i engine.sql
-- From here on readers and writers wait, some 20 ms a watch. All locks share 200 ms, so that no writer waits for deadlock_timeout (1 s).
do $$
declare
  deadline constant timestamptz := clock_timestamp() + interval '200 ms';
  captured regclass;
begin
  for captured in
    select distinct t.tgrelid::regclass
    from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid join pg_class as c on c.oid = t.tgrelid
    where p.pronamespace = 'former_cache_invalidation'::regnamespace and c.relkind in ('r', 'p')
  loop
    perform set_config('lock_timeout', greatest(1, ceil(1000 * extract(epoch from deadline - clock_timestamp())))::text, true);
    execute format('lock table only %s', captured);
  end loop;
end
$$;
drop schema former_cache_invalidation cascade;
select cache_invalidation.watch(w.rel, w.target, w.columns, w.min_interval, w.join_clause) from former_watches as w order by w.id;
select cache_invalidation.answers(a.target, a.source) from former_answers as a;
select cache_invalidation.invalidate('*');
commit;
