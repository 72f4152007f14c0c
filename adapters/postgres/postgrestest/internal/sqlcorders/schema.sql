create table orders (id bigint generated always as identity, email text not null);
