// Go's net/http as a server: says of each request what it read, in a field of the answer.
package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		answer.Header().Set("X-Read", request.Method+" "+request.RequestURI+" ="+hex.EncodeToString(body))
		answer.Header().Set("Content-Length", "0")
	})
	server := http.Server{Handler: handler, DisableGeneralOptionsHandler: true}
	fmt.Fprintln(os.Stderr, server.Serve(listener))
	os.Exit(1)
}
