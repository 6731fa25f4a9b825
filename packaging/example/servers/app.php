<?php
// For php.ini. Each request makes a burst of objects; nothing of a request outlives it.
$first = random_int(0, 1000000);
$rows = [];
for ($i = 0; $i < 400; $i++) {
    $rows[] = ["id" => $first + $i, "name" => "name " . ($first + $i), "tags" => [(string)$i, $i * 1.5, null]];
}
$buffers = [];
for ($i = 0; $i < 100; $i++) {
    $buffers[] = str_repeat(chr(97 + $i % 26), random_int(600, 60000));
}
$good = json_decode(json_encode($rows), true) == $rows;
foreach ($buffers as $buffer) {
    $good = $good && strspn($buffer, $buffer[0]) === strlen($buffer);
}
http_response_code($good ? 200 : 500);
header("Content-Type: text/plain");
echo $good ? getmypid() : "memory changed", "\n";
