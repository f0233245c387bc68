#!/bin/sh
# gRPC's own interop client, case by case, against its own server.
#
# talk.sh CLIENT HOST PORT   prints `grpc CASE ok` or `grpc CASE failed` for each
client=$1 host=$2 port=$3
status=0
for case in empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server cancel_after_begin \
    cancel_after_first_response status_code_and_message special_status_message custom_metadata unimplemented_method unimplemented_service \
    rpc_soak channel_soak orca_per_rpc orca_oob; do
    config='{}'
    # The client reads load reports in a balancing policy of its own, as its test descriptions ask for.
    case $case in orca_*) config='{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}' ;; esac
    if timeout 30 "$client" --service_config_json="$config" --server_host="$host" --server_port="$port" --test_case="$case" >grpc.log 2>&1; then
        echo "grpc $case ok"
    else
        echo "grpc $case failed: $(tail -n 3 grpc.log | tr '\n' ' ')"
        status=1
    fi
done
exit $status
