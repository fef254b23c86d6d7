# guard.sh SIGNAL FOLDER COMMAND…: runs the server for as long as the process lives that holds the other end of standard
# input, and writes the server's process ID to the file "pid". It is not part of the server, so nothing that happens to
# the server keeps it from its work. When that process has died, the server gets SIGNAL, and FOLDER (if not empty) is
# deleted.
signal=$1 folder=$2
shift 2
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
trap '' PIPE # nobody may read the shell's own words any more
echo $server >pid
# Nobody writes to the pipe: read returns when it closes. From then on TERM comes too late. CONT wakes a frozen server.
{ read -r _ <&3; trap '' TERM; kill -"$signal" $server; kill -CONT $server; true; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $server
status=$?
kill $watch 2>/dev/null
wait $watch 2>/dev/null && [ -n "$folder" ] && rm -rf "$folder"
exit $status
