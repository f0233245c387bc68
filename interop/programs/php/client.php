<?php
// PHP as a client: the curl extension with one handle, and the http stream wrapper.
//
// php client.php URL[,BYTES] ...   one JSON verdict a line for each base URL

const DEFAULT_BYTES = 65536;
const PERIOD = 251;

function curl(CurlHandle $handle, string $url, ?string $body = null): string
{
    curl_reset($handle);
    curl_setopt_array($handle, [CURLOPT_URL => $url, CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 60]);
    if ($body !== null) {
        curl_setopt_array($handle, [CURLOPT_POSTFIELDS => $body, CURLOPT_HTTPHEADER => ['Content-Type: text/plain']]);
    }
    $text = curl_exec($handle);
    if ($text === false || curl_getinfo($handle, CURLINFO_RESPONSE_CODE) !== 200) {
        throw new RuntimeException("$url: " . (curl_error($handle) ?: curl_getinfo($handle, CURLINFO_RESPONSE_CODE)));
    }
    return $text;
}

function stream(string $url): int
{
    $from = fopen($url, 'rb', false, stream_context_create(['http' => ['protocol_version' => '1.1', 'header' => 'Connection: close', 'timeout' => 60]]));
    if ($from === false) {
        throw new RuntimeException("open $url");
    }
    $patterned = count(preg_grep('/^X-Pattern: mod' . PERIOD . '$/i', stream_get_meta_data($from)['wrapper_data'])) > 0;
    $pattern = str_repeat(implode('', array_map('chr', range(0, PERIOD - 1))), 300);
    $total = 0;
    while (!feof($from)) {
        $piece = fread($from, 65536);
        if ($patterned && $piece !== substr($pattern, $total % PERIOD, strlen($piece))) {
            throw new RuntimeException("bytes after $total are others");
        }
        $total += strlen($piece);
    }
    return $total;
}

function run(string $base, int $bytes): array
{
    $verdict = ['client' => 'php', 'base' => $base, 'get' => false, 'post' => false, 'keep_alive' => false, 'stream_bytes' => 0, 'ok' => false];
    try {
        $handle = curl_init();
        $verdict['get'] = str_contains(curl($handle, "$base/get?word=caf%C3%A9"), 'word');
        $context = stream_context_create(['http' => ['method' => 'POST', 'header' => 'Content-Type: text/plain', 'content' => 'posted by a stream', 'timeout' => 60]]);
        $streamed = str_contains((string) file_get_contents("$base/post", false, $context), 'posted by a stream');
        $verdict['post'] = $streamed && str_contains(curl($handle, "$base/post", 'posted by php'), 'posted by php');
        $connects = 0;
        for ($i = 0; $i < 10; $i++) {
            curl($handle, "$base/get");
            $connects += curl_getinfo($handle)['connect_time_us'] > 0 ? 1 : 0;
        }
        $verdict['keep_alive'] = $connects === 0;
        $verdict['stream_bytes'] = stream("$base/stream-bytes/$bytes");
        $verdict['ok'] = $verdict['get'] && $verdict['post'] && $verdict['keep_alive'] && $verdict['stream_bytes'] === $bytes;
    } catch (RuntimeException $problem) {
        $verdict['error'] = $problem->getMessage();
    }
    return $verdict;
}

$all = true;
foreach (array_slice($argv, 1) as $argument) {
    [$base, $bytes] = explode(',', "$argument,");
    $verdict = run($base, (int) ($bytes ?: DEFAULT_BYTES));
    $all = $all && $verdict['ok'];
    echo json_encode($verdict, JSON_UNESCAPED_SLASHES), "\n";
}
exit($all ? 0 : 1);
