-- Fencepost: what the database must be. (ASCII only, so that a database of any encoding can read it.)

do $$
begin
  if pg_catalog.current_setting('server_encoding') <> 'UTF8' then
    raise exception 'Fencepost needs a database encoded in UTF8, this one is %', pg_catalog.current_setting('server_encoding')
      using hint = 'Keys are made of UTF-8 bytes. Create a database with encoding ''UTF8''.';
  end if;
end
$$;
