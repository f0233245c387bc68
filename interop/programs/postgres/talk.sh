#!/bin/sh
# PostgreSQL with its own clients: rows, a large value, COPY both ways, a notice across a transaction, an error that leaves the session usable, a cancelled
# query (which comes on a connection of its own), and pgbench.
#
# talk.sh HOST PORT USER   prints `postgres ok`
set -eu
export PATH="/usr/lib/postgresql/15/bin:$PATH"
to="-h $1 -p $2 -U $3"
sql() { psql $to -d postgres -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
is() { [ "$2" = "$3" ] || { echo "$1: expected $2, got $3"; exit 1; }; }

# It accepts before it has recovered, and says so.
for try in $(seq 200); do pg_isready -q $to && break; sleep 0.05; done
sql -c 'SET client_min_messages = warning' -c 'DROP TABLE IF EXISTS n; CREATE TABLE n (i int PRIMARY KEY, t text)'
sql -c "INSERT INTO n SELECT i, 'row ' || i FROM generate_series(1, 50000) i"
is rows 1250025000 "$(sql -c 'SELECT sum(i) FROM n')"
is 'large value' 8000000 "$(sql -c "SELECT repeat('x', 8000000)" | tr -d '\n' | wc -c)"
sql -c 'COPY n TO STDOUT' >rows
is 'copy out' 50000 "$(wc -l <rows)"
sql -c 'CREATE TEMP TABLE m (LIKE n)' -c 'COPY m FROM STDIN' -c 'SELECT count(*) FROM m' <rows >copied
is 'copy in' 50000 "$(tail -n 1 copied)"
is 'after an error' 42 "$(psql $to -d postgres -X -q -A -t -c 'SELECT 1/0' -c 'SELECT 42' 2>/dev/null || true)"

timeout --signal INT 0.5 psql $to -d postgres -X -q -c 'SELECT pg_sleep(20)' >/dev/null 2>cancelled || true
grep -q 'canceling statement due to user request' cancelled || { echo "the query was not cancelled: $(cat cancelled)"; exit 1; }

pgbench $to -i -q -s 1 postgres >/dev/null 2>&1
pgbench $to -c 4 -j 1 -t 50 postgres 2>&1 | grep -q 'actually processed: 200/200' || { echo "pgbench lost transactions"; exit 1; }
echo 'postgres ok'
