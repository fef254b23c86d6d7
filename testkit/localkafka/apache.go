package localkafka

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/internal/local"
)

const (
	apacheVersion = "4.3.1" // as in pom.xml
	minJava       = 17

	clusterID = "YWx0eW4tbG9jYWxrYWZrYQ" // 16 bytes in Base64: altyn-localkafka

	fetchTimeout = 10 * time.Minute
	toolTimeout  = time.Minute

	mavenGoal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
)

//go:embed pom.xml
var pom []byte

// apache is an Apache Kafka that is ready to start.
type apache struct {
	java  string
	libs  string            // the folder of its jars
	users map[string]string // see Options.Users
	tls   tlsfiles.Files    // see Options.TLS

	node      Node
	listeners []Listener
}

// findApache returns Apache Kafka from the cache, and fetches it first if it is not there.
func findApache(ctx context.Context, progress func(string)) (*apache, error) {
	java, err := findJava(ctx)
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("no folder to keep Apache Kafka in: %w", err)
	}
	home := filepath.Join(cache, "altyn", "kafka-"+apacheVersion)
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		progress("fetching Apache Kafka " + apacheVersion + " (43 MB, once)")
		if err := fetch(ctx, home); err != nil {
			return nil, fmt.Errorf("fetching Apache Kafka %s from Maven Central failed: %w. Install Maven and give it access "+
				"to a repository, or set KAFKA=embedded",
				apacheVersion, err)
		}
	}
	return &apache{java: java, libs: filepath.Join(home, "libs")}, nil
}

var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

// ApacheAvailable returns why Apache Kafka cannot run on this machine, or nil. It fetches Apache Kafka if that has
// not been done.
func ApacheAvailable(ctx context.Context) error {
	_, err := findApache(ctx, func(string) {})
	return err
}

func findJava(ctx context.Context) (string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	output, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("java %d or later is needed for Apache Kafka, but %s -version fails: %w. Install a Java "+
			"runtime, or set KAFKA=embedded", minJava, java, err)
	}
	if match := javaVersion.FindSubmatch(output); match != nil {
		if version, err := strconv.Atoi(string(match[1])); err == nil && version >= minJava {
			return java, nil
		}
	}
	first, _, _ := strings.Cut(string(output), "\n")
	return "", fmt.Errorf("java %d or later is needed for Apache Kafka, but %s is %q. Install a later one, or set "+
		"KAFKA=embedded", minJava, java, first)
}

// fetch fills the folder.
func fetch(ctx context.Context, home string) error {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return local.Complete(home, func(unfinished string) error {
		project := filepath.Join(unfinished, "pom.xml")
		if err := os.WriteFile(project, pom, 0o644); err != nil {
			return err
		}
		libs := filepath.Join(unfinished, "libs")
		output, err := exec.CommandContext(ctx, maven, "--batch-mode", "--quiet", "--file", project, mavenGoal,
			"-DoutputDirectory="+libs).CombinedOutput()
		if err == nil {
			_, err = os.Stat(filepath.Join(libs, "kafka_2.13-"+apacheVersion+".jar"))
		}
		if err != nil {
			return fmt.Errorf("mvn: %w: %s", err, lastLines(output, 5))
		}
		return nil
	})
}

func lastLines(output []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// run returns the command that runs a class of Apache Kafka without the JVM's second compiler, which costs more than it
// gives on a small machine and in a short life: a third of the orders per second and two thirds of the latency, on two
// cores.
func (a *apache) run(ctx context.Context, class string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, a.java, append([]string{"-Xmx512m", "-Xms256m", "-XX:+UseSerialGC",
		"-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
		"-cp", filepath.Join(a.libs, "*"), class}, args...)...)
}

func (a *apache) command(folder string, port uint16) (*exec.Cmd, error) {
	if len(a.node.Controllers) <= 1 { // another one at each try
		controller, err := local.FreePort(context.Background(), 0)
		if err != nil {
			return nil, err
		}
		a.node = Node{ID: 1, Controllers: []uint16{controller}}
	}
	if a.tls.Cert != "" {
		if err := a.writeKeyStore(folder); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(folder, dataFolder)
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		if err := a.format(folder, port); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(folder, "server.properties")
	if err := os.WriteFile(config, a.properties(port, data), 0o600); err != nil {
		return nil, err
	}
	return a.run(context.Background(), "kafka.Kafka", config), nil
}

// format makes the data that Kafka starts from. They appear only when they are complete.
func (a *apache) format(folder string, port uint16) error {
	data := filepath.Join(folder, dataFolder)
	unfinished, config := data+".new", filepath.Join(folder, "format.properties")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.WriteFile(config, a.properties(port, unfinished), 0o600); err != nil {
		return err
	}
	defer os.Remove(config)
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	args := []string{"format", "--config", config, "--cluster-id", clusterID}
	if a.alone() {
		args = append(args, "--standalone")
	}
	for name, password := range a.users {
		args = append(args, "--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", name, password))
	}
	output, err := a.run(ctx, "kafka.tools.StorageTool", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kafka.tools.StorageTool: %w: %s", err, lastLines(output, 5))
	}
	return os.Rename(unfinished, data)
}

// alone tells whether the broker is no cluster's.
func (a *apache) alone() bool { return len(a.node.Controllers) == 1 }

// properties configures a broker that is a controller too. Its session is short: after a crash it cannot come back
// before its old session has ended.
func (a *apache) properties(port uint16, data string) []byte {
	protocol, access := "PLAINTEXT", ""
	if len(a.users) > 0 {
		protocol, access = "SASL_PLAINTEXT", fmt.Sprintf(withUsers, Admin, a.users[Admin])
	}
	if a.tls.Cert != "" {
		protocol, access = "SSL", fmt.Sprintf(withTLS, filepath.Join(filepath.Dir(data), keyStore), a.tls.CA)
	}
	controller := local.Address(a.node.Controllers[a.node.ID-1])
	listeners := fmt.Sprintf("CLIENTS://%s,CONTROLLER://%s", local.Address(port), controller)
	advertised, protocols, brokers := listeners, "CONTROLLER:PLAINTEXT,CLIENTS:"+protocol, "CLIENTS"
	for i, l := range a.listeners {
		name := fmt.Sprintf("CLIENTS%d", i+2)
		listeners += "," + name + "://" + local.Address(l.Port)
		advertised += "," + name + "://" + l.Advertised
		protocols += "," + name + ":" + protocol
		if l.Brokers {
			brokers = name
		}
	}
	quorum := "controller.quorum.bootstrap.servers=" + controller
	if !a.alone() {
		var voters []string
		for i, port := range a.node.Controllers {
			voters = append(voters, fmt.Sprintf("%d@%s", i+1, local.Address(port)))
		}
		quorum = "controller.quorum.voters=" + strings.Join(voters, ",")
	}
	replicas := min(MaxReplicas, len(a.node.Controllers))
	return fmt.Appendf(nil, `process.roles=broker,controller
node.id=%[1]d
%[2]s
listeners=%[3]s
advertised.listeners=%[4]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=%[11]s
listener.security.protocol.map=%[5]s
log.dirs=%[6]s
auto.create.topics.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
min.insync.replicas=%[8]d
offsets.topic.num.partitions=4
offsets.topic.replication.factor=%[7]d
offsets.retention.minutes=%[9]d
transaction.state.log.replication.factor=%[7]d
transaction.state.log.min.isr=%[8]d
share.coordinator.state.topic.replication.factor=%[7]d
share.coordinator.state.topic.min.isr=%[8]d
%[10]s`, a.node.ID, quorum, listeners, advertised, protocols, data, replicas, replicas/2+1, offsetsRetentionMinutes,
		access, brokers)
}

// withUsers has clients authenticate, and allows them what ACLs allow. ANONYMOUS is the broker to its own controller.
const withUsers = `sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
  username="%[1]s" password="%[2]s";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:%[1]s;User:ANONYMOUS
`

// withTLS has clients show a certificate.
const withTLS = `ssl.keystore.type=PEM
ssl.keystore.location=%s
ssl.truststore.type=PEM
ssl.truststore.location=%s
ssl.client.auth=required
`

// keyStore is the file in the broker's folder that has its key and certificate.
const keyStore = "keystore.pem"

func (a *apache) writeKeyStore(folder string) error {
	key, err := os.ReadFile(a.tls.Key)
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(a.tls.Cert)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, keyStore), append(key, certificate...), 0o600)
}

// offsetsRetentionMinutes keeps an absent group's offsets for as long as the messages that it has yet to read.
const offsetsRetentionMinutes = 30 * 24 * 60
