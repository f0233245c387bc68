// Go's net/http as a client.
//
// client URL[,BYTES] ...   one JSON verdict a line for each base URL
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"time"
)

const defaultBytes = 65536
const patternPeriod = 251

type verdict struct {
	Client    string `json:"client"`
	Base      string `json:"base"`
	Get       bool   `json:"get"`
	Post      bool   `json:"post"`
	KeepAlive bool   `json:"keep_alive"`
	Stream    int    `json:"stream_bytes"`
	Ok        bool   `json:"ok"`
	Error     string `json:"error,omitempty"`
}

func main() {
	all := true
	for _, argument := range os.Args[1:] {
		base, bytes := split(argument)
		result := try(base, bytes)
		all = all && result.Ok
		json.NewEncoder(os.Stdout).Encode(result)
	}
	if !all {
		os.Exit(1)
	}
}

func split(argument string) (string, int) {
	base, text, found := strings.Cut(argument, ",")
	bytes, err := strconv.Atoi(text)
	if !found || err != nil {
		bytes = defaultBytes
	}
	return base, bytes
}

func try(base string, bytes int) (result verdict) {
	result = verdict{Client: "go", Base: base}
	defer func() {
		if problem := recover(); problem != nil {
			result.Error = fmt.Sprint(problem)
		}
		result.Ok = result.Error == "" && result.Get && result.Post && result.KeepAlive && result.Stream == bytes
	}()
	client := &http.Client{Timeout: 60 * time.Second}
	result.Get = strings.Contains(string(get(client, base+"/get?word=caf%C3%A9", nil)), "word")
	posted, err := client.Post(base+"/post", "text/plain", strings.NewReader("posted by go"))
	check(err)
	result.Post = posted.StatusCode == 200 && strings.Contains(string(read(posted)), "posted by go")
	reused := 0
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused {
			reused++
		}
	}}
	for i := 0; i < 10; i++ {
		get(client, base+"/get", trace)
	}
	result.KeepAlive = reused == 10
	result.Stream = stream(client, fmt.Sprint(base, "/stream-bytes/", bytes))
	return
}

func get(client *http.Client, url string, trace *httptrace.ClientTrace) []byte {
	request, err := http.NewRequest("GET", url, nil)
	check(err)
	if trace != nil {
		request = request.WithContext(httptrace.WithClientTrace(request.Context(), trace))
	}
	reply, err := client.Do(request)
	check(err)
	if reply.StatusCode != 200 {
		panic(fmt.Sprint(url, ": ", reply.Status))
	}
	return read(reply)
}

func read(reply *http.Response) []byte {
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	check(err)
	return body
}

func stream(client *http.Client, url string) int {
	reply, err := client.Get(url)
	check(err)
	defer reply.Body.Close()
	patterned := reply.Header.Get("X-Pattern") == "mod251"
	total, buffer := 0, make([]byte, 64*1024)
	for {
		count, err := reply.Body.Read(buffer)
		for i := 0; patterned && i < count; i++ {
			if buffer[i] != byte((total+i)%patternPeriod) {
				panic(fmt.Sprint("byte ", total+i, " is another"))
			}
		}
		total += count
		if err == io.EOF {
			return total
		}
		check(err)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
