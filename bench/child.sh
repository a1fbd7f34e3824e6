#!/bin/sh
# The same as child.c, for machines without a compiler; it starts far more slowly.
echo "start $(date +%s%N)" >>"$2"
cat >/dev/null
while [ -e "$3" ]; do sleep 0.05; done
sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
echo done
echo "end $(date +%s%N)" >>"$2"
