package kafkasink

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// prefix begins the transactional id.
func (tx *Transaction) prefix(env leat.Env) string {
	if tx.config.ID != "" {
		return tx.config.ID
	}
	return env.Pipeline + "-" + tx.config.Source.Node()
}

// transactionalID is the prefix and what the state folder keeps for it. Zombies are
// fenced by the group's generation (KIP-447) and not by this id, which is one for each
// process, and only ends at once what the process has left open before it was killed.
func (tx *Transaction) transactionalID(env leat.Env) (string, error) {
	prefix := tx.prefix(env)
	if env.StateDir == "" {
		return prefix + "-" + newID(), nil
	}
	path := idFile(env, prefix)
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("kafkasink: %w", err)
	}
	id := strings.TrimSpace(string(kept))
	if b, err := hex.DecodeString(id); err != nil || len(b) != 8 { // none, or torn: any other will do
		id = newID()
		if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
			return "", fmt.Errorf("kafkasink: %w", err)
		}
	}
	return prefix + "-" + id, nil
}

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func idFile(env leat.Env, prefix string) string {
	sum := sha256.Sum256([]byte(prefix))
	return filepath.Join(env.StateDir, "kafkasink-"+hex.EncodeToString(sum[:4])+".id")
}

func forgetID(env leat.Env, prefix string) {
	if env.StateDir == "" {
		return
	}
	if err := os.Remove(idFile(env, prefix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		env.Logger.Warn("the transactional id could not be changed", "error", err)
	}
}

// knows tells whether the options leave the client the requests of KIP-890 part 2, as kgo
// itself decides it.
func knows(cl *kgo.Client) bool {
	most, _ := cl.OptValue(kgo.MaxVersions).(*kversion.Versions)
	if most == nil {
		return true
	}
	for key, need := range map[kmsg.Key]int16{kmsg.Produce: 12, kmsg.EndTxn: 5, kmsg.TxnOffsetCommit: 5} {
		if v, ok := most.LookupMaxKeyVersion(int16(key)); !ok || v < need {
			return false
		}
	}
	return true
}

// sameCluster is an error when two clients are not on one cluster.
func sameCluster(ctx context.Context, source, sink *kgo.Client) error {
	if source == nil {
		return fmt.Errorf("%w: the source is not connected", leat.ErrAborted)
	}
	a, err := clusterOf(ctx, source)
	if err != nil {
		return err
	}
	b, err := clusterOf(ctx, sink)
	if err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("kafkasink: the source reads from cluster %s and the transaction writes to %s; a transaction is of one cluster: write there by a sink without it", a, b)
	}
	return nil
}

func clusterOf(ctx context.Context, cl *kgo.Client) (string, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return "", asTransient(ctx, cl, fmt.Errorf("asking for the cluster's id: %w", err))
	}
	if resp.ClusterID == nil {
		return "", nil
	}
	return *resp.ClusterID, nil
}

// topicLog is the leat.Position.Log of a topic.
func topicLog(ctx context.Context, cl *kgo.Client, name string) (string, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil && len(resp.Topics) == 1 {
		if err = kerr.ErrorForCode(resp.Topics[0].ErrorCode); err == nil {
			return kafka.LogOf(resp.Topics[0].TopicID), nil
		}
	}
	if err == nil {
		err = errors.New("no answer")
	}
	return "", asTransient(ctx, cl, fmt.Errorf("asking for topic %s: %w", name, err))
}
