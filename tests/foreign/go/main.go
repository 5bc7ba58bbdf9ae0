// franz-go as an independent client. Each line of the standard input is a command, its words separated by blanks.
// What it finds is printed, a line of JSON each; {"done":true} ends it. When a command fails the program does, and
// says why on the standard error; when the input ends it goes, whatever it is doing. The commands, here and in the
// other folders:
//
//	produce BOOTSTRAP TOPIC N [CODEC]    record i goes to partition i mod the number of partitions
//	consume BOOTSTRAP TOPIC N            read_committed, from the beginning, until there are N
//	group BOOTSTRAP GROUP TOPIC [PROTOCOL [ASSIGNOR]]
//	                                     prints what it reads, and commits, until the line "stop"
//	txn BOOTSTRAP TOPIC N                N records in transactions of ten, of which every third is aborted
//	copy BOOTSTRAP GROUP FROM TO N       N records in transactions that commit the group's offsets; every third is
//	                                     aborted, and what it held is copied again
//	admin BOOTSTRAP PREFIX               topics, partitions, configuration, groups, offsets
//	rights BOOTSTRAP PREFIX              ACLs, and users of SCRAM
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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

func askPartitions(client *kgo.Client, topic string) (int, error) {
	topics, err := kadm.NewClient(client).ListTopics(context.Background(), topic)
	return len(topics[topic].Partitions), errors.Join(err, topics[topic].Err)
}

func partitions(client *kgo.Client, topic string) int {
	count, err := askPartitions(client, topic)
	check(err)
	return count
}

// Asks until the answer is the wanted one, as a broker learns a moment later what its controller has acknowledged; the
// last answer or failure, after a minute.
func until[T any](wanted T, ask func() (T, error)) T {
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		answer, err := ask()
		if time.Now().After(end) {
			check(err)
			return answer
		}
		if err == nil && reflect.DeepEqual(answer, wanted) {
			return answer
		}
	}
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
		"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
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

func groupOptions(protocol, assignor string) []kgo.Opt {
	if protocol == "consumer" {
		return []kgo.Opt{kgo.ServerSideBalancer()}
	}
	balancers := map[string]kgo.GroupBalancer{
		"": kgo.CooperativeStickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
		"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
	}
	return []kgo.Opt{kgo.Balancers(balancers[assignor]), kgo.HeartbeatInterval(100 * time.Millisecond)}
}

func group(ctx context.Context, bootstrap, group, topic, protocol, assignor string) {
	tell := func(what string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			show(map[string]any{what: len(changed[topic])})
		}
	}
	options := append(groupOptions(protocol, assignor), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(tell("assigned")), kgo.OnPartitionsRevoked(tell("revoked")),
		kgo.OnPartitionsLost(tell("lost")))
	client := client(bootstrap, options...)
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachRecord(showRecord)
		commit(ctx, client)
		client.AllowRebalance()
	}
	commit(context.Background(), client)
	client.CloseAllowingRebalance()
}

// Commits what was read; that the group has gone on is no failure, somebody else reads it again.
func commit(ctx context.Context, client *kgo.Client) {
	err := client.CommitUncommittedOffsets(ctx)
	for _, passing := range []error{
		kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.StaleMemberEpoch, kerr.UnknownMemberID, context.Canceled,
	} {
		if errors.Is(err, passing) {
			return
		}
	}
	check(err)
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

func copyRecords(bootstrap, group, from, to string, n int) {
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.ClientID("franz-go"),
		kgo.TransactionalID("franz-go-"+to), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.HeartbeatInterval(100*time.Millisecond))
	check(err)
	defer session.Close()
	ctx := context.Background()
	for copied, turn := 0, 0; copied < n; {
		fetches := session.PollRecords(ctx, 10)
		check(fetches.Err())
		if fetches.NumRecords() == 0 {
			continue
		}
		check(session.Begin())
		fetches.EachRecord(func(read *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Topic: to, Partition: read.Partition, Timestamp: read.Timestamp,
				Key: read.Key, Value: read.Value, Headers: read.Headers}, func(_ *kgo.Record, err error) { check(err) })
		})
		check(session.Client().Flush(ctx))
		// The session itself goes back to what was committed.
		committed, err := session.End(ctx, kgo.TransactionEndTry(turn%3 != 2))
		check(err)
		if committed {
			copied += fetches.NumRecords()
		}
		show(map[string]any{"committed": committed})
		turn++
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
	show(map[string]any{"partitions": until(5, func() (int, error) { return askPartitions(client, topic) })})
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("70000")}}, topic)
	check(err)
	check(altered[0].Err)
	show(map[string]any{"retention.ms": until("70000", func() (string, error) {
		configs, err := admin.DescribeTopicConfigs(ctx, topic)
		for _, config := range configs {
			for _, entry := range config.Configs {
				if entry.Key == "retention.ms" {
					return entry.MaybeValue(), nil
				}
			}
		}
		return "", err
	})})
	group := prefix + "-group"
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 1, At: 7, LeaderEpoch: -1})
	show(map[string]any{"committed": until(7, func() (int64, error) {
		err := admin.CommitAllOffsets(ctx, group, offsets)
		fetched, failed := admin.FetchOffsets(ctx, group)
		committed, _ := fetched.Lookup(topic, 1)
		return committed.At, errors.Join(err, failed)
	})})
	listed, err := admin.ListGroups(ctx)
	check(err)
	show(map[string]any{"listed": listed[group].State})
	described, err := admin.DescribeGroups(ctx, group)
	check(err)
	show(map[string]any{"described": described[group].State, "members": len(described[group].Members)})
	gone, err := admin.DeleteGroups(ctx, group)
	check(err)
	check(gone[group].Err)
	ends, err := admin.ListEndOffsets(ctx, topic)
	check(err)
	end, _ := ends.Lookup(topic, 4)
	show(map[string]any{"end": end.Offset})
	deleted, err := admin.DeleteTopics(ctx, topic)
	check(err)
	check(deleted[topic].Err)
	show(map[string]any{"deleted": true})
}

func rights(bootstrap, prefix string) {
	client := client(bootstrap)
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx := context.Background()
	user := "User:" + prefix
	may := kadm.NewACLs().Topics(prefix).Allow(user).AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
	mayNot := kadm.NewACLs().Topics(prefix).Deny(user).DenyHosts("*").Operations(kadm.OpWrite).ResourcePatternType(kadm.ACLPatternPrefixed)
	for _, acls := range []*kadm.ACLBuilder{may, mayNot} {
		made, err := admin.CreateACLs(ctx, acls)
		check(err)
		check(made[0].Err)
	}
	acls := func() ([]string, error) {
		found := []string{}
		for _, permission := range []func(*kadm.ACLBuilder) *kadm.ACLBuilder{
			func(it *kadm.ACLBuilder) *kadm.ACLBuilder { return it.Allow(user).AllowHosts() },
			func(it *kadm.ACLBuilder) *kadm.ACLBuilder { return it.Deny(user).DenyHosts() },
		} {
			filter := permission(kadm.NewACLs().AnyResource(prefix).Operations().ResourcePatternType(kadm.ACLPatternAny))
			described, err := admin.DescribeACLs(ctx, filter)
			if err != nil {
				return nil, err
			}
			for _, result := range described {
				check(result.Err)
				for _, acl := range result.Described {
					found = append(found, fmt.Sprintf("%v %v %v", acl.Permission, acl.Operation, acl.Pattern))
				}
			}
		}
		slices.Sort(found)
		return found, nil
	}
	show(map[string]any{"acls": until([]string{"ALLOW READ LITERAL", "DENY WRITE PREFIXED"}, acls)})
	gone, err := admin.DeleteACLs(ctx, mayNot)
	check(err)
	check(gone[0].Err)
	show(map[string]any{"revoked": len(gone[0].Deleted)})
	show(map[string]any{"acls": until([]string{"ALLOW READ LITERAL"}, acls)})
	altered, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{
		{User: prefix, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"}})
	check(err)
	check(altered.Error())
	users := func() ([]string, error) {
		described, err := admin.DescribeUserSCRAMs(ctx)
		found := []string{}
		for _, info := range described[prefix].CredInfos {
			found = append(found, fmt.Sprintf("%v %d", info.Mechanism, info.Iterations))
		}
		return found, err
	}
	show(map[string]any{"users": until([]string{"SCRAM-SHA-256 4096"}, users)})
	deleted, err := admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: prefix, Mechanism: kadm.ScramSha256}}, nil)
	check(err)
	check(deleted.Error())
	show(map[string]any{"users": until([]string{}, users)})
}

func number(text string) int {
	parsed, err := strconv.Atoi(text)
	check(err)
	return parsed
}

func run(ctx context.Context, words []string) {
	words = append(words, "", "", "", "", "")
	switch bootstrap := words[1]; words[0] {
	case "produce":
		produce(bootstrap, words[2], number(words[3]), words[4])
	case "consume":
		consume(bootstrap, words[2], number(words[3]))
	case "group":
		group(ctx, bootstrap, words[2], words[3], words[4], words[5])
	case "txn":
		txn(bootstrap, words[2], number(words[3]))
	case "copy":
		copyRecords(bootstrap, words[2], words[3], words[4], number(words[5]))
	case "admin":
		admin(bootstrap, words[2])
	case "rights":
		rights(bootstrap, words[2])
	default:
		fmt.Fprintln(os.Stderr, "unknown command", words[0])
		os.Exit(2)
	}
	show(map[string]any{"done": true})
}

func main() {
	stop := func() {}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if lines.Text() == "stop" {
			stop()
			continue
		}
		var ctx context.Context
		ctx, stop = context.WithCancel(context.Background())
		go run(ctx, strings.Fields(lines.Text()))
	}
}
