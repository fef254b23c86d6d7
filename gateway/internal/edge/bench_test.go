package edge

import (
	"bytes"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// BenchmarkProxy sends orders of a usual size through a gateway on real sockets. Client and service are bare
// connections; what an exchange between them costs without a gateway is measured first and taken off, so that
// gateway-cpu-µs/op is the CPU time that the gateway adds to a request.
func BenchmarkProxy(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // As main does.
	answer := strings.Repeat("x", 400)
	address := bareService(b, "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: "+
		strconv.Itoa(len(answer))+"\r\nLocation: /api/v1/orders/1\r\n\r\n"+answer)
	g := setup(b, nil, address)

	b.ReportAllocs()
	start := cpu(b)
	exchange(b, address)
	bare := cpu(b) - start
	b.ResetTimer()
	start = cpu(b)
	exchange(b, g.url)
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-start-bare)/float64(b.N)/1000, "gateway-cpu-µs/op")
}

// exchange sends b.N orders over 32 connections.
func exchange(b *testing.B, url string) {
	const clients = 32
	order := `{"account_id":"018f5e3a-0000-7000-8000-000000000001","amount":"2500.00","currency":"RUB"}`
	request := []byte("POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n" +
		"Content-Type: application/json\r\nIdempotency-Key: 018f5e3a-0000-7000-8000-000000000001\r\nContent-Length: " +
		strconv.Itoa(len(order)) + "\r\n\r\n" + order)
	work := make(chan struct{}, clients)
	var wg sync.WaitGroup
	for range clients {
		connection, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer connection.Close()
			buffer := make([]byte, 4<<10)
			for range work {
				if _, err := connection.Write(request); err != nil {
					b.Error(err)
					continue
				}
				n := 0
				for !bytes.HasSuffix(buffer[:n], []byte("xxxx")) {
					read, err := connection.Read(buffer[n:])
					if err != nil {
						b.Error(err)
						break
					}
					n += read
				}
				if !bytes.HasPrefix(buffer[:n], []byte("HTTP/1.1 201")) {
					b.Errorf("got %s", buffer[:n])
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}

// bareService answers every request, each of which ends with a brace, with the same bytes.
func bareService(b *testing.B, answer string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				buffer := make([]byte, 4<<10)
				for {
					n, err := connection.Read(buffer)
					if err != nil {
						return
					}
					if buffer[n-1] != '}' {
						continue
					}
					if _, err := io.WriteString(connection, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// cpu is the CPU time of this process in nanoseconds.
func cpu(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
