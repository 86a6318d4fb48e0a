package harness

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// MinIO is another server of S3, for a second opinion. It is a process of its own and nothing of it is linked.
var MinIO = Tool{"minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c", ""}

// StartMinIO runs it until the test ends.
func StartMinIO(t testing.TB) *S3 {
	t.Helper()
	addr := FreeAddr(t)
	Run(t, []string{"MINIO_ROOT_USER=tester", "MINIO_ROOT_PASSWORD=secret-of-the-tester", "MINIO_BROWSER=off"},
		MinIO.Path(t), "server", "--address", addr, t.TempDir())
	return newBucket(t, addr)
}

// StartRGW runs the gateway of a Ceph cluster of one daemon of each kind, which keeps its objects in memory, until the test ends.
func StartRGW(t testing.TB) *S3 {
	t.Helper()
	for _, program := range []string{"ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"} {
		if _, err := exec.LookPath(program); err != nil {
			Lacking(t, err.Error()+" (ceph-mon, ceph-osd, ceph-common and radosgw)")
		}
	}
	c := newCluster(t)
	c.run("ceph-mon", "-i", "a", "-f")
	c.do("ceph", "--connect-timeout", "20", "osd", "new", c.osd, "0")
	c.do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", c.osd)
	c.run("ceph-osd", "-i", "0", "-f")
	addr := FreeAddr(t)
	c.run("radosgw", "-n", "client.rgw", "-f", "--rgw-frontends", "beast endpoint="+addr)
	c.do("radosgw-admin", "user", "create", "--uid", "tester", "--display-name", "tester", "--access-key", "tester", "--secret", "secret-of-the-tester")
	return newBucket(t, addr)
}

// A cluster of Ceph, in a folder.
type cluster struct {
	t         testing.TB
	folder    string
	fsid, osd string
}

const clusterConfig = `[global]
fsid = %[1]s
mon host = [v2:%[2]s/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = %[3]s/keyring
run dir = %[3]s
admin socket =
pid file =
log file = %[3]s/$name.log
mon data = %[3]s/mon
mon data avail crit = 0
mon allow pool size one = true
osd data = %[3]s/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
`

// newCluster makes keys and the store of the monitor.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, folder: t.TempDir(), fsid: newUUID(t), osd: newUUID(t)}
	addr := FreeAddr(t)
	if err := os.WriteFile(c.path("ceph.conf"), fmt.Appendf(nil, clusterConfig, c.fsid, addr, c.folder), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"mon", "osd"} {
		if err := os.Mkdir(c.path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c.do("ceph-authtool", "--create-keyring", c.path("keyring"), "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
	for name, caps := range map[string][2]string{
		"client.admin": {"allow *", "allow *"}, "osd.0": {"allow profile osd", "allow *"}, "client.rgw": {"allow rw", "allow rwx"},
	} {
		c.do("ceph-authtool", c.path("keyring"), "--gen-key", "-n", name, "--cap", "mon", caps[0], "--cap", "osd", caps[1])
	}
	c.do("monmaptool", "--create", "--addv", "a", "[v2:"+addr+"]", "--fsid", c.fsid, c.path("monmap"))
	c.do("ceph-mon", "--mkfs", "-i", "a", "--monmap", c.path("monmap"))
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.folder, name) }

// do runs a command of the cluster to its end.
func (c *cluster) do(program string, args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.path("ceph.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// run runs a daemon of the cluster until the test ends.
func (c *cluster) run(program string, args ...string) {
	c.t.Helper()
	Run(c.t, []string{"CEPH_CONF=" + c.path("ceph.conf")}, program, args...)
}

func newUUID(t testing.TB) string {
	t.Helper()
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(id))
}

// newBucket waits for a server of S3 and makes the bucket.
func newBucket(t testing.TB, addr string) *S3 {
	t.Helper()
	s := &S3{Endpoint: "http://" + addr, Bucket: "registry", Region: "us-east-1", AccessKey: "tester", SecretKey: "secret-of-the-tester"}
	WaitForListener(t, addr)
	client := s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, Region: s.Region, UsePathStyle: true, HTTPClient: http.DefaultClient,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(s.Bucket)}); err != nil {
		t.Fatal(err)
	}
	return s
}
