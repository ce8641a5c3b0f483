-- Joins by the name of a foreign key: whatever it is called, and whatever the table is called that it refers to, whose name is the alias.
\ir fencepost_preamble.psql

create table public.folders (id integer primary key, name text);
insert into public.folders values (8, 'etc');

-- its name as the catalog has it: cut to 63 bytes, with blanks around it, or inherited by a partition
create table public.parted (id integer, folder integer, constraint inherited foreign key (folder) references public.folders) partition by list (id);
create table public.parted_1 partition of public.parted for values in (1);
alter table public.parted_1 add constraint " blank " foreign key (folder) references public.folders;
set local client_min_messages = warning; -- the name is cut
do $$ begin execute format('alter table public.parted_1 add constraint %I foreign key (folder) references public.folders', repeat('ä', 40)); end $$;
reset client_min_messages;
select cache_invalidation.watch('public.parted_1', 'named:' || place || ':{folders.name}', join => name)
from (values (1, 'inherited'), (2, ' blank '), (3, repeat('ä', 40)), (4, '  inherited ')) as v(place, name);
select is(pg_temp.captured('insert into public.parted values (1, 8)'), array['i named:1:etc', 'i named:2:etc', 'i named:3:etc', 'i named:4:etc'], 'names of foreign keys');
create table public.halves (id integer primary key, name text) partition by list (id);
create table public.halves_1 partition of public.halves for values in (1);
create table public.parts (id integer, whole_id integer constraint of_whole references public.halves) partition by list (id);
create table public.parts_1 partition of public.parts for values in (1);
select is((cache_invalidation.read_join(child, 'of_whole'))[1].parent, 'public.halves'::regclass, 'a foreign key to a partitioned table, of ' || child)
from unnest('{public.parts,public.parts_1}'::regclass[]) as child;
select throws_ok(format('select cache_invalidation.read_join(%L, %L)', f.conrelid::regclass, f.conname), '22023', null, 'its part for one partition is no join')
from pg_constraint as f where f.contype = 'f' and f.confrelid = 'public.halves_1'::regclass;

-- the alias of a foreign key is any name, also one that the queries use themselves; and its text is read again when the table comes back
create table pg_temp.names as select name from unnest('{before,after,new,old,found,c,k,x,o,s,m,label,at,op,change,part,k1,select,on,Join,$1,a b,é}'::text[]) as name;
create function pg_temp.parent(name text) returns void language plpgsql as $$
begin
  execute format('create table public.%1$I (id integer primary key, name text); insert into public.%1$I values (1, ''one'')', name);
end
$$;
select pg_temp.parent(name) from names;
select pg_temp.run(format('create table public.%I (id integer, parent integer constraint of_parent references public.%I)', 'of ' || name, name)) from names;
select cache_invalidation.watch(format('public.%I', 'of ' || name)::regclass, format('alias:{%s.name}:{id}', name), join => 'of_parent') from names;
select is(pg_temp.captured(format('insert into public.%I values (1, 1)', 'of ' || name)), array['i alias:one:1'], 'a foreign key to a table called ' || name) from names;
select pg_temp.run(format('drop table public.%I cascade', name)) from names;
select pg_temp.parent(name) from names;
select is((select count(distinct p.watch_id) from cache_invalidation.problems() as p where p.severity = 'error'), count(*), 'each comes back, and problems() says so') from names;
select cache_invalidation.refresh();
select is(pg_temp.problems(), '{}', 'refresh() joins all of them');
select is(pg_temp.captured(format('update public.%I set name = ''two''', name)), array['u alias:one:*', 'u alias:two:*'], 'and sees what becomes of ' || name) from names;

select * from finish();
rollback;
