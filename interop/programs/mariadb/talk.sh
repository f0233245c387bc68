#!/bin/sh
# MariaDB with its own client: rows, a large value both ways, an error, a prepared statement.
#
# talk.sh HOST PORT USER   prints `mariadb ok`
set -eu
sql() { mariadb --no-defaults -h "$1" -P "$2" -u "$3" --protocol=tcp --skip-ssl --batch --skip-column-names -e "$4"; }
is() { [ "$2" = "$3" ] || { echo "$1: expected $2, got $3"; exit 1; }; }
ask() { sql "$host" "$port" "$user" "$1"; }
host=$1 port=$2 user=$3

ask 'CREATE DATABASE IF NOT EXISTS interop; CREATE OR REPLACE TABLE interop.n (i INT PRIMARY KEY, t TEXT)'
ask "INSERT INTO interop.n SELECT seq, CONCAT('row ', seq) FROM mysql.seq_1_to_20000"
is rows 200010000 "$(ask 'SELECT SUM(i) FROM interop.n')"
is 'large value' 8000000 "$(ask "SELECT REPEAT('x', 8000000)" | tr -d '\n' | wc -c)"
is 'an error' 'ERROR 1064' "$(ask 'SELEKT' 2>&1 | grep -o 'ERROR 1064')"
is 'a prepared statement' 42 "$(ask "PREPARE p FROM 'SELECT ? * 7'; SET @six = 6; EXECUTE p USING @six")"
echo 'mariadb ok'
