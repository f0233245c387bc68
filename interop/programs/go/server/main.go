// An origin with Go's net/http: what httpbin offers and its sizes do not.
//
// server ADDRESS
//
//	GET  /get              the request as JSON
//	POST /post             the body's length, sum and text (of short bodies) as JSON
//	GET  /stream-bytes/N   N bytes, chunked, byte i being i mod 251
//	GET  /after/N          a short text after N milliseconds
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const patternPeriod = 251

// In milliseconds.
const longestWait = 1000

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: server ADDRESS")
	}
	http.HandleFunc("/get", get)
	http.HandleFunc("/post", post)
	http.HandleFunc("/stream-bytes/", stream)
	http.HandleFunc("/after/", after)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

func get(reply http.ResponseWriter, request *http.Request) {
	answer(reply, map[string]any{"method": request.Method, "url": request.URL.String(), "host": request.Host, "headers": request.Header, "args": request.URL.Query()})
}

func post(reply http.ResponseWriter, request *http.Request) {
	length, sum, text := 0, 0, strings.Builder{}
	buffer := make([]byte, 64*1024)
	for {
		count, err := request.Body.Read(buffer)
		for _, one := range buffer[:count] {
			sum = (sum + int(one)) & 0xffffff
		}
		if length+count <= 1024 {
			text.Write(buffer[:count])
		}
		length += count
		if err == io.EOF {
			break
		}
		if err != nil {
			http.Error(reply, err.Error(), http.StatusBadRequest)
			return
		}
	}
	answer(reply, map[string]any{"data": text.String(), "length": length, "sum": sum, "headers": request.Header})
}

func after(reply http.ResponseWriter, request *http.Request) {
	wait, err := strconv.Atoi(strings.TrimPrefix(request.URL.Path, "/after/"))
	if err != nil || wait < 0 || wait > longestWait {
		http.Error(reply, "how many milliseconds?", http.StatusBadRequest)
		return
	}
	time.Sleep(time.Duration(wait) * time.Millisecond)
	fmt.Fprintln(reply, "it is time")
}

func stream(reply http.ResponseWriter, request *http.Request) {
	total, err := strconv.Atoi(strings.TrimPrefix(request.URL.Path, "/stream-bytes/"))
	if err != nil || total < 0 {
		http.Error(reply, "a number of bytes is needed", http.StatusBadRequest)
		return
	}
	reply.Header().Set("Content-Type", "application/octet-stream")
	reply.Header().Set("X-Pattern", fmt.Sprint("mod", patternPeriod))
	block := make([]byte, patternPeriod*256)
	for i := range block {
		block[i] = byte(i % patternPeriod)
	}
	for sent := 0; sent < total; {
		count := min(len(block), total-sent)
		if _, err := reply.Write(block[:count]); err != nil {
			return
		}
		reply.(http.Flusher).Flush()
		sent += count
	}
}

func answer(reply http.ResponseWriter, value any) {
	reply.Header().Set("Content-Type", "application/json")
	json.NewEncoder(reply).Encode(value)
}
