# guard.sh FOLDER COMMAND…: runs the broker for as long as the process lives that holds the other end of standard input,
# and writes the broker's process ID to descriptor 3. Descriptor 4, the lock of the data, stays open in the broker. When
# that process dies, the broker is killed and FOLDER (if not empty) is deleted.
folder=$1
shift
exec 5<&0 </dev/null
"$@" 3>&- 5<&- &
broker=$!
echo $broker >&3
exec 3>&-
{
	read -r _ <&5 # nobody writes to the pipe: this returns when it closes
	trap '' TERM
	kill -KILL $broker
	while kill -0 $broker; do sleep 1; done
	[ -z "$folder" ] || rm -rf "$folder"
} >/dev/null 2>&1 4>&- &
watch=$!
exec 5<&-
wait $broker
status=$?
kill $watch 2>/dev/null
exit $status
