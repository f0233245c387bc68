#!/bin/sh
# curl sends a body of unknown length, asking first whether it may (Expect: 100-continue).
#
# upload.sh URL BYTES   prints what the origin counted
head -c "$2" /dev/zero | tr '\0' a | curl -sS --fail --max-time 60 -X POST -T - "$1"
