// Says in a field which path programs in Go read: that of the URL, cleaned as FileServer does.
package main

import (
	"encoding/base64"
	"net/http"
	"os"
	"path"
)

func main() {
	read := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Path", base64.StdEncoding.EncodeToString([]byte(path.Clean("/"+r.URL.Path))))
	}
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(read)))
}
