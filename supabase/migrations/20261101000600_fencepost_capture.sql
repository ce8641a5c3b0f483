-- Fencepost: capture. Each watched table has one generated trigger function, which runs in the writer's transaction for every changed
-- row, and for TRUNCATE. It reads the columns that keys are made of, writes one row of changes, and wakes the worker.
--
-- Promise: capture makes no write fail and no writer wait, and a writer cannot redirect it. Why, and each rule that the text of the
-- function keeps: docs/protocol.md#capture

-- The declarations of a version share its key columns: their names, in the order of changes.change.
create function cache_invalidation.key_columns(version bigint) returns text[] language sql stable set search_path = pg_catalog, pg_temp
return array(
  select distinct c.name::text collate "C"
  from cache_invalidation.versions as v cross join lateral unnest(v.reads) as c
  where v.id = key_columns.version and v.problem is null and c.alias = '' and c.is_key
  order by 1);

-- What an operation gives as changes.change: one call of format(), because each call and each CASE costs a writer more than what it does.
-- (A call takes 100 arguments at most.) format() calls the output function of any type, and nothing else. It quotes every value (%L),
-- so that NULL is no text.
create function cache_invalidation.change_expression(names text[], op text, rows text[], bits text) returns text language sql immutable
set search_path = pg_catalog, pg_temp
return (
  select string_agg(c.call, ' || ' order by c.number)
  from (
    select e.place / 90 as number, format('format(E''%s''%s)', string_agg(e.element, '' order by e.place), string_agg(', ' || e.value, '' order by e.place)) as call
    from (
      select 0 as place, op as element, null as value
      union all
      select row_number() over (order by r.place, n.place), '\x01%L', format('%s.%I', r.row, n.name)
      from unnest(rows) with ordinality as r("row", place)
      cross join unnest(names) with ordinality as n(name, place)
      union all
      select 1 + cardinality(rows) * cardinality(names), '\x01%s', bits where bits is not null
    ) as e
    group by number
  ) as c);

-- The bits of the declarations that an update concerns, as an expression; null where it always concerns all of them. Images are
-- compared, because equality is too weak (1.0 = 1.00, citext), and some types have none.
create function cache_invalidation.concerned_bits(version bigint) returns text language sql stable set search_path = pg_catalog, pg_temp
return (
  select string_agg(case
      when d.old is null then d.bit::text
      else format('case when record_image_ne(row(%s), row(%s)) then %s else 0 end', d.old, d.new, d.bit)
    end, ' | ' order by d.place)
  from (
    select v.place, 1::bigint << least(v.place, 62) as bit,
      string_agg('old.' || quote_ident(c.name), ', ' order by c.name) as old, string_agg('new.' || quote_ident(c.name), ', ' order by c.name) as new
    from cache_invalidation.versions as v
    left join lateral (
      select distinct u.name from unnest(v.reads) as u where u.alias = '' and v.columns is not null and v.problem is null) as c on true
    where v.id = version
    group by v.place
  ) as d
  having count(d.old) > 0);

-- The text of a capture function. The branch of updates comes first, each branch has one expression, and a record that is never set is
-- cheaper to return than null: docs/benchmarks.md has what each costs a writer. While capture is paused the function does nothing.
create function cache_invalidation.capture_body(version bigint) returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  bits constant text := cache_invalidation.concerned_bits(version);
  names constant text[] := cache_invalidation.key_columns(version);
begin
  if exists (select from cache_invalidation.epoch as e where e.paused_at is not null) then
    return E'\nbegin\n  -- paused: see cache_invalidation.resume_capture()\n  return null;\nend\n';
  end if;
  -- `supabase db dump` leaves out each line that begins with two dashes; and a line break in a name must not end the comment
  return concat(E'\n  -- ',
    (select regexp_replace(string_agg(v.target, ', ' order by v.place), '\s', ' ', 'g') from cache_invalidation.versions as v where v.id = version), $body$
declare
  change text;
  nothing record;
begin
  begin
    if tg_op = 'UPDATE' then
      change := $body$, cache_invalidation.change_expression(names, 'u', '{new,old}', bits), $body$;
$body$, case when bits is not null then $body$      if right(change, 2) = E'\x010' then
        return nothing;
      end if;
$body$ end, $body$    elsif tg_op = 'INSERT' then
      change := $body$, cache_invalidation.change_expression(names, 'i', '{new}', null), $body$;
    elsif tg_op = 'DELETE' then
      change := $body$, cache_invalidation.change_expression(names, 'd', '{old}', null), $body$;
    else
      change := 't';
    end if;
  exception
    when others then
      change := concat_ws(E'\x01', 'e', sqlstate, lower(left(tg_op, 1)));
  end;
  insert into cache_invalidation.changes (version, change) values ($body$, version, $body$, change);
  if not pg_try_advisory_xact_lock_shared($body$, cache_invalidation.doorbell_lock(), $body$) then
    perform cache_invalidation.ring();
  end if;
  return nothing;
end
$body$);
end
$$;

-- The name of the function with a version's queries, which are told apart by their declaration's place.
create function cache_invalidation.target_function(version bigint) returns name language sql immutable set search_path = pg_catalog, pg_temp
return 'targets_' || to_hex(version);

-- Both functions of a version as they are now, and whether they are to capture. (A script that hardens all functions of a database changes
-- settings and rights: with its writer's rights a function fails writes, with the writer's TimeZone it names other keys.)
create function cache_invalidation.functions_now(name name, version bigint) returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select concat(string_agg(concat_ws(' ', p.oid, p.xmin), ', ' order by p.oid), (select ' paused' from cache_invalidation.epoch as e where e.paused_at is not null))
    from pg_proc as p where p.pronamespace = 'cache_invalidation'::regnamespace and p.proname in (name, cache_invalidation.target_function(version)));
end
$$;

-- Writes the capture function of a version, and that of its targets. Takes no lock on any table.
create function cache_invalidation.write_functions(name name, version bigint) returns void language plpgsql set search_path = pg_catalog, pg_temp
set check_function_bodies = off
as $$
-- the text and the settings are generated: @plpgsql_check_options: security_warnings = false
declare
  target_function constant text := format('cache_invalidation.%I(xid8[], bigint, integer, integer, smallint)', cache_invalidation.target_function(version));
begin
  execute format('create or replace function %s returns setof cache_invalidation.outbox_target language plpgsql stable set search_path = pg_catalog, pg_temp as %L',
    target_function, (
      select format(E'\nbegin\n%send\n', string_agg(format(E'  if $5 = %s then\n    return query %s;\n  end if;\n', v.place, v.query), '' order by v.place))
      from cache_invalidation.versions as v where v.id = version and v.query is not null));
  execute format('revoke all on function %s from public', target_function);
  execute format('create or replace function cache_invalidation.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp %s as %L',
    -- the text of these types depends on the session, and must not depend on the writer's
    name, (select string_agg(distinct 'set datestyle = ''ISO, YMD'' set timezone = ''UTC'' set bytea_output = hex', '')
      from cache_invalidation.versions as v cross join lateral unnest(v.reads) as c
      where v.id = version and c.alias = '' and c.is_key
        and cache_invalidation.base_type(c.type) in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'bytea'::regtype)),
    cache_invalidation.capture_body(version));
  -- Postgres asks whoever creates a partition for this right. Nobody else can name the function without a right on its schema.
  execute format('grant execute on function cache_invalidation.%I() to public', name);
  -- whoever calls watch(), the function writes changes as the schema's owner
  execute format('alter function cache_invalidation.%I() owner to %s; alter function %s owner to %2$s',
    name, (select n.nspowner::regrole from pg_namespace as n where n.nspname = 'cache_invalidation'), target_function);
  update cache_invalidation.versions as v set written = cache_invalidation.functions_now(name, version) where v.id = version and v.place = 0;
end
$$;

-- Whether a trigger calls a function. (Through pg_depend, because pg_trigger has no index on its functions.)
create function cache_invalidation.is_called(function oid) returns boolean language sql stable set search_path = pg_catalog, pg_temp
return exists (select from pg_depend as d where d.refclassid = 'pg_proc'::regclass and d.refobjid = function and d.classid = 'pg_trigger'::regclass);

-- A free name for the capture function of a table. It is made of the table's name, so it is the same in every environment. A function
-- of that name that stands for another table, or that triggers call (of a former table of that name, a copy of the schema alone), is left
-- alone.
create function cache_invalidation.free_function_name(rel regclass) returns name language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  wanted text := (select n.nspname || '_' || c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = rel);
  suffix text := '';
begin
  -- With 'fencepost_' before and '_truncate' behind it, it names a trigger: 63 bytes. Without, it must not be another table's name with it.
  if octet_length(wanted) > 36 or wanted like '%\_truncate' then
    wanted := left(regexp_replace(wanted, '[^ -~]', '', 'g'), 25) || '_' || left(md5(wanted), 10);
  end if;
  while exists (select from cache_invalidation.versions as v where v.function = 'capture_' || wanted || suffix and v.retired is null)
    or cache_invalidation.is_called(to_regproc(format('cache_invalidation.%I', 'capture_' || wanted || suffix)))
  loop
    suffix := '_' || (coalesce(nullif(ltrim(suffix, '_'), ''), '1')::integer + 1);
  end loop;
  return 'capture_' || wanted || suffix;
end
$$;

-- A table and what is below it, partitions or inheritance children, but for temporary ones, which one session alone sees. (Without locks,
-- which pg_partition_tree() takes. PL/pgSQL keeps its plan, and claims ask this.)
create function cache_invalidation.table_trees(tables oid[]) returns table (root oid, rel oid) language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query with recursive tree(root, rel) as (
    select t.rel, t.rel from unnest(tables) as t(rel)
    union
    select tree.root, i.inhrelid from tree join pg_inherits as i on i.inhparent = tree.rel
  )
  select tree.root, tree.rel from tree join pg_class as c on c.oid = tree.rel and c.relpersistence <> 't';
end
$$;

-- The present versions of these tables (null: of all).
create function cache_invalidation.present_versions(tables oid[]) returns table (id bigint, rel regclass, function name, written text) language sql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
  select v.id, v.rel, v.function, v.written from cache_invalidation.versions as v
  where v.retired is null and v.place = 0
    and v.rel = any (coalesce(tables, array(select known.rel::oid from cache_invalidation.versions as known where known.retired is null)))
$$;

-- The triggers of the capture functions of watched tables (null: all), on whatever table.
create function cache_invalidation.capture_triggers(tables oid[] default null)
returns table (root regclass, rel regclass, oid oid, name name, row_version xid, is_clone boolean, type smallint, always boolean) language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.rel, t.tgrelid, t.oid, t.tgname, t.xmin, t.tgparentid <> 0, t.tgtype, t.tgenabled = 'A' and t.tgqual is null and t.tgattr::text = ''
  from cache_invalidation.present_versions(tables) as w
  join pg_proc as p on p.proname = w.function and p.pronamespace = 'cache_invalidation'::regnamespace
  -- through pg_depend, because pg_trigger has no index on its functions
  join pg_depend as d on d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid and d.classid = 'pg_trigger'::regclass
  join pg_trigger as t on t.oid = d.objid
$$;

-- The triggers of watched tables (null: all) that are not as they must be: missing, left over, not firing always or not for every row.
-- Row triggers are cloned to partitions, inheritance children need their own, and TRUNCATE triggers are needed everywhere. definition is
-- the rest of CREATE TRIGGER; null: left over.
create function cache_invalidation.wrong_triggers(tables oid[] default null)
returns table (root regclass, rel regclass, name name, definition text, is_missing boolean) language sql stable set search_path = pg_catalog, pg_temp
as $$
  with watched as materialized (
    select p.rel::oid as rel, p.function from cache_invalidation.present_versions(tables) as p
  ), wanted as materialized (
    select t.root, t.rel, ('fencepost_' || substr(w.function, 9) || kind.suffix)::name as name, kind.type, kind.definition
    from cache_invalidation.table_trees(array(select w.rel from watched as w)) as t
    join watched as w on w.rel = t.root
    join pg_class as c on c.oid = t.rel and c.relkind <> 'm'
    -- type: the bits that pg_trigger.tgtype has for this definition
    join (values
      ('', 29, 'after insert or update or delete on %s for each row'),
      ('_truncate', 32, 'after truncate on %s for each statement')
    ) as kind(suffix, type, definition)
      on case when kind.suffix = '' then t.rel = t.root or not c.relispartition
        -- Postgres 15 has none for foreign tables
        else c.relkind <> 'f' or current_setting('server_version_num')::integer >= 160000 end
  ), found as materialized (
    select f.* from cache_invalidation.capture_triggers(tables) as f
  )
  select coalesce(n.root, f.root), coalesce(n.rel, f.rel), coalesce(n.name, f.name), n.definition, f.name is null
  from wanted as n full join (select own.* from found as own where not own.is_clone) as f on f.rel = n.rel and f.name = n.name
  where n.name is null or f.always is not true or f.type <> n.type
    -- a trigger fires always only if its clones do (hashed, because a table may have thousands of partitions)
    or (n.root, n.name) in (select clone.root, clone.name from found as clone where clone.is_clone and not clone.always)
$$;
