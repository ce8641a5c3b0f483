-- Fencepost: what answers a key. `fencepost audit` compares cached answers with the database's own, and this tells it what to ask.
--
--   select cache_invalidation.answers('workflow:{id}:definition', 'public.workflow_definition');
--   select cache_invalidation.answers('member:{org}:{user}', 'select jsonb_build_object(''role'', role) from …');
--
-- Only the schema's owner declares. The worker runs a source read-only, with a time limit, and with the rights of its own role.

create table cache_invalidation.answer_sources (
  target text collate "C" primary key,
  source text not null
);
comment on table cache_invalidation.answer_sources is 'What answers keys: see cache_invalidation.answers(). `fencepost audit` asks it.';
grant select on cache_invalidation.answer_sources to fencepost_worker;

create function cache_invalidation.answers(target text, source text) returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  variables constant bigint := (select count(*) from regexp_matches(answers.target, '\{', 'g'));
  query text := answers.source;
  parameters bigint;
begin
  if answers.target is null or answers.target !~ '^[^:{}*]+(:([^:{}*]+|\{[^:{}*]+\}))*$' then
    raise exception 'no keys are meant by the target %', coalesce(answers.target, 'NULL') using
      errcode = 'invalid_parameter_value', hint = 'Write a key with its variable segments in braces: quota:{org}:{provider}:{model}.';
  end if;
  delete from cache_invalidation.answer_sources as a where a.target = answers.target;
  if answers.source is null then
    return;
  end if;
  -- a function's name stands for a call with every variable segment
  if query ~ '^[^\s()]+$' and to_regproc(query) is not null then
    query := format('select %s(%s)', to_regproc(query), (select string_agg('$' || n, ', ') from generate_series(1, variables) as n));
  end if;
  -- Postgres checks the query as the worker will run it, and counts its parameters. Every name outside pg_catalog needs its schema.
  execute format(E'prepare fencepost_answers as select to_jsonb(a.value) from (%s\n) as a (value)', query);
  parameters := (select cardinality(p.parameter_types) from pg_prepared_statements as p where p.name = 'fencepost_answers');
  deallocate fencepost_answers;
  if parameters <> variables then
    raise exception 'the source of % has % parameters and its keys have % variable segments', answers.target, parameters, variables using
      errcode = 'invalid_parameter_value', hint = 'Refer to the variable segments, in their order, as $1, $2 and so on; use each one.';
  end if;
  insert into cache_invalidation.answer_sources values (answers.target, query);
end
$$;
comment on function cache_invalidation.answers(text, text) is
  'Declares what answers the keys of a target: a function, or a query over $1, $2, …, the variable segments. A NULL source takes it back.';
