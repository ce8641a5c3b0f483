-- Triggers and functions that are dropped, disabled or replaced: problems() names each, and refresh() ends the gap and invalidates the type.
\ir fencepost_preamble.psql

create function pg_temp.check_function(statement text, title text) returns setof text language plpgsql as $$
begin
  perform pg_temp.run(statement);
  return next matches(pg_temp.problems()::text, 'error: the capture function of public.gaps is missing or out of date', title);
  return next is(pg_temp.captured('select cache_invalidation.refresh()'), array['- gap:*'], title || ': refresh() writes it again and invalidates the type');
  return next is(pg_temp.problems(), '{}', title || ': no problem any more');
  return next is(pg_temp.captured($s$insert into public.gaps values (1, 'a'); delete from public.gaps$s$), array['d gap:a'], title || ': writes are captured again');
end
$$;

create table public.gaps (id integer primary key, org_id text, note text);
select cache_invalidation.watch('public.gaps', 'gap:{org_id}');

-- triggers
create function pg_temp.check_trigger(statement text, title text) returns setof text language plpgsql as $$
declare
  trigger_name name;
begin
  foreach trigger_name in array '{fencepost_public_gaps,fencepost_public_gaps_truncate}'::name[] loop
    perform pg_temp.run(format(statement, trigger_name));
    return next is(pg_temp.problems(), array['error: triggers are missing or disabled: public.gaps ' || trigger_name], title || ': ' || trigger_name);
    return next is(pg_temp.captured('select cache_invalidation.refresh()'), array['- gap:*'], title || ': refresh() ends the gap and invalidates the type');
    return next is(pg_temp.problems(), '{}', title || ': no problem any more');
  end loop;
end
$$;
select pg_temp.check_trigger('drop trigger %I on public.gaps', 'a trigger dropped');
select pg_temp.check_trigger('alter table public.gaps disable trigger %I', 'a trigger disabled');
select pg_temp.check_trigger('alter table public.gaps enable trigger %I', 'a trigger that is not ALWAYS');
select pg_temp.check_trigger('alter table public.gaps enable replica trigger %I', 'a trigger for replicas only');
select pg_temp.check_trigger('alter trigger %I on public.gaps rename to renamed; drop trigger renamed on public.gaps', 'a trigger renamed and dropped');
create function pg_temp.other() returns trigger language plpgsql as 'begin return null; end';
create function pg_temp.check_replaced(definition text, name text) returns setof text language plpgsql as $$
begin
  -- with them it is mended at once where the function is another
  alter event trigger fencepost_ddl disable;
  perform pg_temp.run(format('create or replace trigger %I %s; alter table public.gaps enable always trigger %1$I', name, definition));
  alter event trigger fencepost_ddl enable always;
  perform cache_invalidation.keep_catalog_snapshot('{0}');
  return next is(pg_temp.problems(), array['error: triggers are missing or disabled: public.gaps ' || name], 'a trigger replaced: ' || definition);
  return next is(pg_temp.captured('select cache_invalidation.refresh()'), array['- gap:*'], 'refresh() ends the gap and invalidates the type');
  return next is(pg_temp.captured($s$insert into public.gaps values (1, 'a'); update public.gaps set org_id = 'b'; delete from public.gaps$s$), array['i gap:a', 'd gap:b'], 'writes are captured again');
  return next is(pg_temp.captured('truncate public.gaps'), array['t gap:*'], 'and TRUNCATE');
end
$$;
select pg_temp.check_replaced(definition, 'fencepost_public_gaps')
from unnest(array[
  'after insert on public.gaps for each row execute function cache_invalidation.capture_public_gaps()',
  'after insert or update or delete on public.gaps for each row when (false) execute function cache_invalidation.capture_public_gaps()',
  'after insert or update of note or delete on public.gaps for each row execute function cache_invalidation.capture_public_gaps()',
  'before insert or update or delete on public.gaps for each row execute function cache_invalidation.capture_public_gaps()',
  'after insert or update or delete on public.gaps for each statement execute function cache_invalidation.capture_public_gaps()',
  'after insert or update or delete on public.gaps for each row execute function pg_temp.other()'
]) as definition;
select pg_temp.check_replaced('after truncate on public.gaps for each statement execute function pg_temp.other()', 'fencepost_public_gaps_truncate');
alter trigger fencepost_public_gaps on public.gaps rename to renamed;
select is(pg_temp.problems(), array['warning: triggers are left over: public.gaps renamed', 'error: triggers are missing or disabled: public.gaps fencepost_public_gaps'], 'a trigger renamed');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- gap:*'], 'refresh() gives it its name');
select is(pg_temp.problems(), '{}', 'no problem any more');
alter table public.gaps disable trigger all;
select is(pg_temp.problems(), array['error: triggers are missing or disabled: public.gaps fencepost_public_gaps, public.gaps fencepost_public_gaps_truncate'], 'DISABLE TRIGGER ALL');
alter table public.gaps enable trigger all;
select is(pg_temp.problems(), array['error: triggers are missing or disabled: public.gaps fencepost_public_gaps, public.gaps fencepost_public_gaps_truncate'], 'and ENABLE TRIGGER ALL, as pg_restore --disable-triggers does');
select is(pg_temp.captured($$select cache_invalidation.watch('public.gaps', 'gap:{org_id}')$$), array['- gap:*'], 'watch() again ends it as well');
select is(pg_temp.problems(), '{}', 'no problem any more');
-- the function
select pg_temp.check_function(statement, title)
from (values
  ('create or replace function cache_invalidation.capture_public_gaps() returns trigger language plpgsql as ''begin return null; end''', 'a capture function replaced'),
  ('drop function cache_invalidation.capture_public_gaps() cascade', 'a capture function dropped'),
  ('alter function cache_invalidation.capture_public_gaps() security invoker', 'one that runs with the rights of its writer, who has none'),
  ('alter function cache_invalidation.capture_public_gaps() set search_path = ''''', 'one whose search_path was hardened by a script'),
  ('alter function cache_invalidation.capture_public_gaps() reset all', 'one without its settings'),
  ('revoke execute on function cache_invalidation.capture_public_gaps() from public', 'one that nobody else may create a partition with'),
  ('grant fencepost_worker to current_user; grant create on schema cache_invalidation to fencepost_worker; alter function cache_invalidation.capture_public_gaps() owner to fencepost_worker',
    'one that belongs to somebody else')
) as s(statement, title);

select * from finish();
rollback;
