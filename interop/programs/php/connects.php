<?php
// How long connecting to MariaDB takes, with PHP's own implementation of its protocol. The server speaks first there.
//
// php connects.php HOST PORT USER COUNT   a JSON verdict with the median of all connects, a query on each

mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
[, $host, $port, $user, $count] = $argv;
$times = [];
try {
    for ($i = 0; $i < (int) $count; $i++) {
        $started = hrtime(true);
        $connection = new mysqli($host, $user, '', '', (int) $port);
        $times[] = (hrtime(true) - $started) / 1e6;
        if ($connection->query("SELECT 6 * 7")->fetch_row()[0] !== '42') {
            throw new RuntimeException('6 * 7 is not 42');
        }
        $connection->close();
    }
    sort($times);
    $median = $times[intdiv(count($times), 2)];
    echo json_encode(['client' => 'mysqli', 'connects' => count($times), 'median_ms' => round($median, 3), 'most_ms' => round(end($times), 3), 'ok' => true]), "\n";
} catch (Exception $problem) {
    echo json_encode(['client' => 'mysqli', 'connects' => count($times), 'ok' => false, 'error' => $problem->getMessage()]), "\n";
    exit(1);
}
