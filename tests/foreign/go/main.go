// franz-go as an independent client. The commands are those of every program in this folder:
//
//	produce BOOTSTRAP TOPIC N [CODEC]   record i goes to partition i mod the number of partitions
//	consume BOOTSTRAP TOPIC N           read_committed, from the beginning, until there are N
//	group BOOTSTRAP GROUP TOPIC         prints what it reads, and commits, until its input ends
//	txn BOOTSTRAP TOPIC N               N records in transactions of ten, of which every third is aborted
//	admin BOOTSTRAP PREFIX              topics, partitions, configuration, groups
//
// A line of JSON is printed for each record and each result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func show(line any) {
	bytes, err := json.Marshal(line)
	check(err)
	fmt.Println(string(bytes))
}

func client(bootstrap string, options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap), kgo.ClientID("franz-go"))...)
	check(err)
	return made
}

func partitions(client *kgo.Client, topic string) int {
	topics, err := kadm.NewClient(client).ListTopics(context.Background(), topic)
	check(err)
	check(topics[topic].Err)
	return len(topics[topic].Partitions)
}

func record(topic string, i int, count int) *kgo.Record {
	made := &kgo.Record{Topic: topic, Partition: int32(i % count), Timestamp: time.UnixMilli(1700000000000 + int64(i))}
	if i%7 != 0 {
		made.Key = []byte(fmt.Sprintf("key-%d", i))
	}
	if i%11 != 0 {
		made.Value = []byte(fmt.Sprintf("value-%d", i))
	}
	if i%5 == 0 {
		made.Headers = []kgo.RecordHeader{
			{Key: "twice", Value: []byte("a")}, {Key: "null", Value: nil}, {Key: "twice", Value: []byte("b")},
		}
	}
	return made
}

func text(bytes []byte) any {
	if bytes == nil {
		return nil
	}
	return string(bytes)
}

func showRecord(read *kgo.Record) {
	headers := [][]any{}
	for _, header := range read.Headers {
		headers = append(headers, []any{header.Key, text(header.Value)})
	}
	show(map[string]any{
		"partition": read.Partition, "offset": read.Offset, "timestamp": read.Timestamp.UnixMilli(),
		"key": text(read.Key), "value": text(read.Value), "headers": headers,
	})
}

func codec(name string) kgo.CompressionCodec {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	return codecs[name]
}

func produce(bootstrap, topic string, n int, compression string) {
	client := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec(compression)), kgo.ProducerLinger(5*time.Millisecond))
	defer client.Close()
	count := partitions(client, topic)
	for i := 0; i < n; i++ {
		client.Produce(context.Background(), record(topic, i, count), func(sent *kgo.Record, err error) {
			check(err)
			show(map[string]any{"partition": sent.Partition, "offset": sent.Offset})
		})
	}
	check(client.Flush(context.Background()))
}

func consume(bootstrap, topic string, n int) {
	client := client(bootstrap, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer client.Close()
	for seen := 0; seen < n; {
		fetches := client.PollFetches(context.Background())
		for _, failed := range fetches.Errors() {
			check(failed.Err)
		}
		fetches.EachRecord(func(read *kgo.Record) {
			showRecord(read)
			seen++
		})
	}
}

func group(bootstrap, group, topic string) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	tell := func(what string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			show(map[string]any{what: len(changed[topic])})
		}
	}
	client := client(bootstrap, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100*time.Millisecond),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(tell("assigned")),
		kgo.OnPartitionsRevoked(tell("revoked")), kgo.OnPartitionsLost(tell("lost")))
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachRecord(showRecord)
		if err := client.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() == nil {
			check(err)
		}
		client.AllowRebalance()
	}
	check(client.CommitUncommittedOffsets(context.Background()))
	client.CloseAllowingRebalance()
}

func txn(bootstrap, topic string, n int) {
	client := client(bootstrap, kgo.TransactionalID("franz-go-"+topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer client.Close()
	count := partitions(client, topic)
	for from := 0; from < n; from += 10 {
		check(client.BeginTransaction())
		for i := from; i < from+10; i++ {
			client.Produce(context.Background(), record(topic, i, count), func(_ *kgo.Record, err error) { check(err) })
		}
		check(client.Flush(context.Background()))
		commit := from/10%3 != 2
		check(client.EndTransaction(context.Background(), kgo.TransactionEndTry(commit)))
		show(map[string]any{"committed": commit})
	}
}

func admin(bootstrap, prefix string) {
	client := client(bootstrap)
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx := context.Background()
	topic := prefix + "-topic"
	created, err := admin.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": kadm.StringPtr("60000")}, topic)
	check(err)
	show(map[string]any{"created": created.NumPartitions})
	_, err = admin.CreateTopic(ctx, 3, 1, nil, topic)
	show(map[string]any{"again": err.Error()})
	grown, err := admin.UpdatePartitions(ctx, 5, topic)
	check(err)
	check(grown.Error())
	show(map[string]any{"partitions": partitions(client, topic)})
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("70000")}}, topic)
	check(err)
	check(altered[0].Err)
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	check(err)
	for _, config := range configs[0].Configs {
		if config.Key == "retention.ms" {
			show(map[string]any{"retention.ms": config.MaybeValue()})
		}
	}
	group := prefix + "-group"
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 1, At: 7, LeaderEpoch: -1})
	check(admin.CommitAllOffsets(ctx, group, offsets))
	fetched, err := admin.FetchOffsets(ctx, group)
	check(err)
	committed, _ := fetched.Lookup(topic, 1)
	show(map[string]any{"committed": committed.At})
	listed, err := admin.ListGroups(ctx)
	check(err)
	show(map[string]any{"listed": listed[group].State})
	described, err := admin.DescribeGroups(ctx, group)
	check(err)
	show(map[string]any{"described": described[group].State, "members": len(described[group].Members)})
	gone, err := admin.DeleteGroups(ctx, group)
	check(err)
	check(gone[group].Err)
	deleted, err := admin.DeleteTopics(ctx, topic)
	check(err)
	check(deleted[topic].Err)
	show(map[string]any{"deleted": true})
}

func main() {
	arguments := append(os.Args[1:], "", "", "", "", "")
	number := func(text string) int {
		parsed, err := strconv.Atoi(text)
		check(err)
		return parsed
	}
	switch bootstrap := arguments[1]; arguments[0] {
	case "produce":
		compression := arguments[4]
		if compression == "" {
			compression = "none"
		}
		produce(bootstrap, arguments[2], number(arguments[3]), compression)
	case "consume":
		consume(bootstrap, arguments[2], number(arguments[3]))
	case "group":
		group(bootstrap, arguments[2], arguments[3])
	case "txn":
		txn(bootstrap, arguments[2], number(arguments[3]))
	case "admin":
		admin(bootstrap, arguments[2])
	default:
		fmt.Fprintln(os.Stderr, "unknown command")
		os.Exit(2)
	}
}
