// Says in a field which path programs on Node read: that of the URL, decoded.
require("http").createServer((request, response) => {
    let path;
    try {
        path = decodeURIComponent(new URL(request.url, "http://t.test").pathname);
    } catch {
        response.statusCode = 400;
        return response.end();
    }
    response.setHeader("X-Path", Buffer.from(path).toString("base64"));
    response.end();
}).listen(Number(process.argv[2]), "127.0.0.1");
