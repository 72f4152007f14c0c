-- name: InsertOrder :exec
insert into orders (email) values ($1);
