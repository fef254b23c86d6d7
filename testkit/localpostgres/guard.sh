# guard.sh FOLDER COMMAND…: runs the server for as long as the process lives that holds the other end of standard input.
# It is not part of the server, so nothing that happens to the server keeps it from its work. When the server has ended,
# however it ended, FOLDER (if not empty) is deleted.
folder=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
# Nobody writes to the pipe: read returns when it closes. QUIT is an immediate shutdown, CONT wakes a frozen server to it.
{ read -r _ <&3 || { kill -QUIT $server; kill -CONT $server; }; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $server
status=$?
kill $watch 2>/dev/null
[ -z "$folder" ] || rm -rf "$folder"
exit $status
