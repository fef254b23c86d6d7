# guard.sh COMMAND…: becomes COMMAND, and kills it when the process that holds the other end of standard input is gone. A
# line on standard input says that COMMAND has ended and that its process ID may mean another process from now on.
exec 3<&0 </dev/null
{ read -r _ <&3 || kill -KILL $$; } >/dev/null 2>&1 &
exec 3<&-
exec "$@"
