package edge

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// BenchmarkProxy sends orders of a usual size through a gateway on a real socket. Client and service are minimal, written on
// bare connections, so that nearly all of cpu-µs/op, the CPU time of the whole process, is the gateway's.
func BenchmarkProxy(b *testing.B) {
	answer := strings.Repeat("x", 400)
	address := bareService(b, "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: "+
		strconv.Itoa(len(answer))+"\r\nLocation: /api/v1/orders/1\r\n\r\n"+answer)
	g := setup(b, nil, address)
	order := `{"account_id":"018f5e3a-0000-7000-8000-000000000001","amount":"2500.00","currency":"RUB"}`
	request := []byte("POST /api/v1/orders HTTP/1.1\r\nHost: altyn\r\nUser-Agent: bench\r\nAccept: */*\r\n" +
		"Content-Type: application/json\r\nIdempotency-Key: 018f5e3a-0000-7000-8000-000000000001\r\nContent-Length: " +
		strconv.Itoa(len(order)) + "\r\n\r\n" + order)

	const clients = 32
	var wg sync.WaitGroup
	work := make(chan struct{}, clients)
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	for range clients {
		connection, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer connection.Close()
			buffer := make([]byte, 4<<10)
			for range work {
				if _, err := connection.Write(request); err != nil {
					b.Error(err)
					return
				}
				for n := 0; !strings.HasSuffix(string(buffer[:n]), "xxxx"); {
					read, err := connection.Read(buffer[n:])
					if err != nil {
						b.Error(err)
						return
					}
					n += read
				}
				if !strings.HasPrefix(string(buffer[:12]), "HTTP/1.1 201") {
					b.Errorf("got %s", buffer[:64])
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1000, "cpu-µs/op")
}

// bareService answers every request, each of which it takes to come in one piece and to end with a brace, with the same bytes.
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
					if n > 0 && buffer[n-1] == '}' {
						if _, err := io.WriteString(connection, answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// BenchmarkDirect is the same exchange without a gateway: what the bare client and service cost.
func BenchmarkDirect(b *testing.B) {
	server := bareService(b, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	connection, err := net.Dial("tcp", strings.TrimPrefix(server, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	defer connection.Close()
	buffer := make([]byte, 4<<10)
	before := cpu(b)
	for b.Loop() {
		if _, err := io.WriteString(connection, "POST / HTTP/1.1\r\nHost: altyn\r\n\r\n{}"); err != nil {
			b.Fatal(err)
		}
		if _, err := connection.Read(buffer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1000, "cpu-µs/op")
}

// cpu is the CPU time of this process in nanoseconds.
func cpu(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
