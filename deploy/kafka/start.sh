#!/usr/bin/env bash
# Starts Kafka in its container, with server.properties as they are. Formatting writes meta.properties last: where that is
# there already, the folder is one to go on with.
set -euo pipefail
properties=/altyn/server.properties
kafka=(java -Xmx512m -Dlog4j2.level=warn -cp '/opt/kafka/libs/*')

if [ ! -e /var/lib/kafka/data/meta.properties ]; then
  "${kafka[@]}" kafka.tools.StorageTool format --cluster-id AltynAltynAltynAltynAA --config $properties
fi
exec "${kafka[@]}" kafka.Kafka $properties
