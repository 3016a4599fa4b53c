// Package kafkatorture has no code, only tests: processes that share a consumer group run
// whole pipelines on a Kafka cluster of three nodes while brokers, processes and
// connections die, and what came out is compared with what went in. Rows lost and rows
// there twice are counted and printed; both must be 0, whatever happened.
//
//	cluster_test.go  three brokers, started by .ci/servers/kafka.sh for this test binary alone
//	world_test.go    an input topic, the members, the comparison
//	member_test.go   the process that is killed: a member of each pipeline's group
//	pipes_test.go    the pipelines
//	fault_test.go    what is done to them
//	proxy_test.go    what lies between a member and the brokers
//	applied_test.go  requests that were applied although their answers said or were nothing, with kfake
//	members_test.go  throughput by number of members; measured only with LEAT_MEMBERS=1
//
// A pipeline or a fault that is new gets a line in the table of its file.
//
// They are short by default: 50,000 records for each fault. LEAT_LONG=1 sends 1,000,000
// (LEAT_RECORDS says another number); `make kafka-torture` does that and prints the table.
package kafkatorture
