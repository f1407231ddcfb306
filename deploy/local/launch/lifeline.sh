#!/bin/sh
# Runs a server for as long as its own standard input stays open, so that the server never outlives who started it,
# however that one ended. Usage: lifeline.sh keep|remove DIRECTORY COMMAND [ARGUMENT...]
#   keep    asks the server to stop (SIGTERM) and waits for it
#   remove  the directory is a test's and nobody needs it any more: kills the server and removes it
fate=$1 directory=$2
shift 2

exec 3<&0
"$@" </dev/null 3<&- &
server=$!
# A subshell that blocks in `read`: nothing is ever written, so it returns when the other end is closed.
(
    read -r nothing <&3
    if [ "$fate" = remove ]; then kill -KILL "$server"; else kill -TERM "$server"; fi
) 2>/dev/null &
watcher=$!
exec 3<&-

trap 'kill -TERM "$server" 2>/dev/null' TERM INT
wait "$server"
status=$?
# A signal ends `wait` early: the server's own end is what counts.
while kill -0 "$server" 2>/dev/null; do
    wait "$server"
    status=$?
done
kill "$watcher" 2>/dev/null
if [ "$fate" = remove ]; then
    rm -rf "$directory"
    # The last server of a test takes their common directory along.
    rmdir "$(dirname "$directory")" 2>/dev/null
fi
exit "$status"
