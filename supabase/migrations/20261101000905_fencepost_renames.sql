-- Fencepost 9/9, part 2: names that change. A watch follows what it was declared for: the table by its oid, each column by its
-- number, whatever they are called later. (Numbers count only for the table they were read from: after a dump and restore
-- they may differ, but the names are right.)
--
-- So after a swap (rename a to a_old, b to a; or the same with tables) a watch follows the old column. That is what was declared, but
-- perhaps not what is meant. swapped() detects it, for a warning at the DDL statement and for problems(), until watch() is called
-- again for one of the two.

-- A declaration with other names for columns of the watched table, all at once; renames has the new name of each old one.
create function cache_invalidation.rename_columns(w cache_invalidation.watches, renames jsonb) returns cache_invalidation.watches
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  w.target := cache_invalidation.rename_in_target(w.target, renames);
  w.join_clause := cache_invalidation.rename_in_join(w.join_clause, renames);
  if w.columns is not null then
    w.columns := array(
      select coalesce(renames ->> c.name, c.name) from pg_catalog.unnest(w.columns) with ordinality as c(name, place) order by c.place);
  end if;
  return w;
end
$$;

-- The statement that makes a declaration, for the relation of that name.
create function cache_invalidation.declaration(w cache_invalidation.watches, rel_name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.format('select cache_invalidation.watch(%L, %L%s%s%s);', rel_name, w.target,
    ', columns => ' || pg_catalog.quote_literal(w.columns::text),
    ', min_interval => ' || pg_catalog.quote_literal(w.min_interval::text),
    ', "join" => ' || pg_catalog.quote_literal(w.join_clause))
$$;

-- Keeps a declaration whose table is gone, under this name.
create function cache_invalidation.remember(w cache_invalidation.watches, rel_name text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.dropped_watches values (rel_name, w.target, w.columns, w.min_interval, w.join_clause)
  on conflict on constraint dropped_watches_pkey do update
    set columns = excluded.columns, min_interval = excluded.min_interval, join_clause = excluded.join_clause
$$;

-- The declarations of tables that were dropped, or renamed, where another table has the name now and is not watched for the target.
create function cache_invalidation.unwatched() returns setof cache_invalidation.dropped_watches
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select named.*
  from (
    select d.* from cache_invalidation.dropped_watches as d
    union
    select w.declared_as, w.target, w.columns, w.min_interval, w.join_clause from cache_invalidation.watches as w
    where pg_catalog.to_regclass(w.declared_as) <> w.rel
  ) as named
  where pg_catalog.to_regclass(named.rel_name) is not null
    and not exists (
      select from cache_invalidation.watches as w where w.rel = pg_catalog.to_regclass(named.rel_name) and w.target = named.target)
  order by named.rel_name, named.target
$$;

-- The declaration with the present names of its columns; null when one of them is gone.
create function cache_invalidation.follow_renames(w cache_invalidation.watches) returns cache_invalidation.watches
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  named record;
  renames jsonb := '{}'::jsonb;
begin
  for named in
    select numbered.key as old_name, same_number.attname::text as new_name, same_name.attnum is null as name_is_gone
    from pg_catalog.jsonb_each_text(w.column_numbers) as numbered
    left join pg_catalog.pg_attribute as same_number
      on same_number.attrelid = w.rel and same_number.attnum = numbered.value::smallint and not same_number.attisdropped
        and w.rel::oid = w.declared_oid
    left join pg_catalog.pg_attribute as same_name
      on same_name.attrelid = w.rel and same_name.attname = numbered.key and same_name.attnum > 0 and not same_name.attisdropped
  loop
    if named.new_name <> named.old_name then
      renames := renames || pg_catalog.jsonb_build_object(named.old_name, named.new_name);
    elsif named.new_name is null and named.name_is_gone then
      return null;
    end if;
  end loop;
  w := cache_invalidation.rename_columns(w, renames);
  w.column_numbers := cache_invalidation.number_columns(w);
  if w.rel::oid <> w.declared_oid then
    w.declared_oid := w.rel;
    w.declared_columns := w.column_numbers;
  end if;
  return w;
end
$$;

-- Names of the declaration that belong to something else now, each with the two ways to settle it.
create function cache_invalidation.swapped(w cache_invalidation.watches) returns table (problem text, remedy text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  other_rel constant regclass := pg_catalog.to_regclass(w.declared_as);
  former_names jsonb;
  remedies constant text := 'To watch the other one instead: select cache_invalidation.unwatch(%L, %L); %s To keep this one: %s';
begin
  if other_rel <> w.rel and not exists (
    select from cache_invalidation.watches as other where other.rel = other_rel and other.target = w.target)
  then
    problem := pg_catalog.format('the watch of %s for %L was declared when that was called %s, which is another table now',
      w.rel, w.target, w.declared_as);
    remedy := pg_catalog.format(remedies, w.rel, w.target,
      cache_invalidation.declaration(w, w.declared_as), cache_invalidation.declaration(w, w.rel::text));
    return next;
  end if;
  select pg_catalog.jsonb_object_agg(followed.attname, declared.key),
      pg_catalog.string_agg(pg_catalog.format('%I, which was called %I', followed.attname, declared.key), ' and ' order by declared.key)
    into former_names, problem
    from pg_catalog.jsonb_each_text(w.declared_columns) as declared
    join pg_catalog.pg_attribute as followed
      on followed.attrelid = w.rel and followed.attnum = declared.value::smallint and not followed.attisdropped
    join pg_catalog.pg_attribute as other on other.attrelid = w.rel and other.attname = declared.key and other.attnum > 0
    where other.attnum <> followed.attnum and w.rel::oid = w.declared_oid;
  if former_names is not null then
    problem := pg_catalog.format('the watch of %s for %L follows the column %s; another column is called that now', w.rel, w.target, problem);
    remedy := pg_catalog.format(remedies, w.rel, w.target,
      cache_invalidation.declaration(cache_invalidation.rename_columns(w, former_names), w.rel::text),
      cache_invalidation.declaration(w, w.rel::text));
    return next;
  end if;
end
$$;
