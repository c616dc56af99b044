// Package metrics makes metrics for Prometheus of an instance of a cluster.
//
//	prometheus.MustRegister(metrics.NewCollector(cluster))
//
// Each [libcluster.Cluster] has a collector of its own, and any number of them may be in one
// registry. All metrics have the labels key, partition_name (often empty), env and id. Give
// instances IDs that they keep, or each restart begins new time series. To add labels, or to
// have another prefix, wrap the registerer ([prometheus.WrapRegistererWith]).
//
// A scrape reads what the instance knows anyway. It asks the registry nothing and waits for
// nobody, also while the registry hangs; and however slow the reader is, no heartbeat waits for
// it.
//
// # What is measured
//
// These are as of now:
//
//	libcluster_active                  1 if this instance has an assignment, else 0
//	libcluster_phase                   1 for the phase that it is in, by phase, else 0
//	libcluster_index                   its first worker index, in mode cooperative its lowest partition; -1: it has none
//	libcluster_workers                 its workers; not of a passive instance
//	libcluster_total_workers           the workers in the whole cluster; not in mode cooperative
//	libcluster_total_partitions        in mode cooperative: the partitions of the work
//	libcluster_partitions_held         in mode cooperative: those of them that it holds
//	libcluster_generation              of its state
//	libcluster_members                 the members that have an assignment, as far as it knows; in a static cluster itself
//	libcluster_covered                 1 if each index, or partition, is held by exactly one instance that is there, else 0
//	libcluster_blockers                in modes with a plan: the instances that the cluster waits for
//	libcluster_seconds_until_deadline  how long until it is fenced, unless its record is renewed; 0: it is fenced
//
// A value that the instance does not know, or that has no meaning, is left out:
//
//   - libcluster_generation before the first state, and if generations can't be compared: in a
//     static cluster, and with gossip.
//   - libcluster_covered if the instance has not looked within a TTL. In mode direct each
//     instance looks at each heartbeat, and in a mode with a plan the coordinator. So take the
//     minimum over the cluster. While the registry is away no instance knows it, so look at
//     libcluster_active too. In a static cluster none ever does.
//   - libcluster_seconds_until_deadline without a deadline: in a static cluster, with
//     [libcluster.KeepOnOutage], and while the instance is not joined.
//
// The rest counts since [libcluster.New], as [libcluster.Stats] says in full:
//
//	libcluster_rebalances_total        states that the application was given, index -1 included
//	libcluster_fences_total            by reason: deadline, record_gone, registry_reset, instance_taken, stuck, mode, drained
//	libcluster_rejoins_total           after a fence, the instance has joined again
//	libcluster_registry_errors_total   calls of the registry that have failed, by op: join, renew, watch, publish,
//	                                   acknowledge, coordinate, look, leave
//	libcluster_renew_seconds           histogram: heartbeats that have succeeded, from sending to answer
//	libcluster_handover_seconds        histogram, in modes exclusive and cooperative, by kind: graceful, crash
//
// A hand-over is a change of the plan, from when the coordinator learned that one was due until
// it has committed the plan by which all have what they should have. The kind is crash if an
// instance had to be waited out, since its record was gone and it had not said that it had
// stopped. Only the coordinator measures, so take the sum over the cluster.
//
// The folder deploy of this module has alert rules and a dashboard.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/libcluster/libcluster"
)

// NewCollector returns a collector of what a cluster's instance knows and has counted. It may be
// registered before the cluster is joined, and stays of use after it has been left. Of two
// instances with the same key, partition name, environment and ID, a registry takes one only.
func NewCollector(cluster *libcluster.Cluster) prometheus.Collector {
	cfg := cluster.Config()
	labels := prometheus.Labels{"key": cfg.Key, "partition_name": cfg.Partition, "env": cfg.Env, "id": cfg.ID}
	c := &collector{cluster: cluster, cfg: cfg}
	for _, f := range families {
		c.descs = append(c.descs, prometheus.NewDesc("libcluster_"+f.name, f.help, f.labels, labels))
	}
	return c
}

type collector struct {
	cluster *libcluster.Cluster
	cfg     libcluster.Config
	descs   []*prometheus.Desc // of the families, in their order
}

// Describe sends the descriptions of all metrics, also of those that are left out for now.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect reads first and then sends, since the reader may be slow.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	now := instant{
		View: c.cluster.View(), stats: c.cluster.Stats(), phase: c.cluster.Phase(),
		cfg: c.cfg, can: c.cfg.Registry.Capabilities(),
	}
	for i, f := range families {
		f.read(now, writer{c.descs[i], to})
	}
}

// instant is what one scrape has read.
type instant struct {
	libcluster.View
	stats libcluster.Stats
	phase libcluster.Phase
	cfg   libcluster.Config
	can   libcluster.Capabilities
}

func (now instant) isCooperative() bool { return now.cfg.Mode == libcluster.ModeCooperative }

// waits reports whether the mode is one in which an instance waits until another has stopped.
func (now instant) waits() bool {
	return now.isCooperative() || now.cfg.Mode == libcluster.ModeExclusive
}

// knowsCoverage reports whether the instance has looked lately.
func (now instant) knowsCoverage() bool {
	at := now.stats.Coverage.At
	return !at.IsZero() && time.Since(at) <= now.cfg.TTL
}

// writer sends the values of one family. The labels are the family's own, in their order.
type writer struct {
	desc *prometheus.Desc
	to   chan<- prometheus.Metric
}

func (w writer) gauge(value float64, labels ...string) {
	w.to <- prometheus.MustNewConstMetric(w.desc, prometheus.GaugeValue, value, labels...)
}

func (w writer) truth(is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	w.gauge(value, labels...)
}

func (w writer) counter(value uint64, labels ...string) {
	w.to <- prometheus.MustNewConstMetric(w.desc, prometheus.CounterValue, float64(value), labels...)
}

func (w writer) histogram(h libcluster.Histogram, labels ...string) {
	below, buckets := uint64(0), make(map[float64]uint64, len(h.Bounds))
	for i, bound := range h.Bounds {
		below += h.Counts[i]
		buckets[bound.Seconds()] = below
	}
	w.to <- prometheus.MustNewConstHistogram(w.desc, h.Count, h.Sum.Seconds(), buckets, labels...)
}

// counters sends counters by one label.
func counters[K ~string](w writer, by map[K]uint64) {
	for label, value := range by {
		w.counter(value, string(label))
	}
}

// phases are all there are.
var phases = []libcluster.Phase{
	libcluster.PhaseJoining, libcluster.PhaseActive, libcluster.PhaseWaiting,
	libcluster.PhaseFenced, libcluster.PhaseLeaving, libcluster.PhaseLeft,
}

// family is the metrics of one name. What is not known read leaves out.
type family struct {
	name, help string
	labels     []string
	read       func(now instant, w writer)
}

var families = []family{
	{"active", "Whether this instance has an assignment.", nil, func(now instant, w writer) {
		w.truth(now.State.Active())
	}},
	{"phase", "Where this instance stands with its cluster: 1 for its phase.", []string{"phase"}, func(now instant, w writer) {
		for _, phase := range phases {
			w.truth(phase == now.phase, string(phase))
		}
	}},
	{"index", "The first worker index of this instance, or in mode cooperative its lowest partition. -1: none.", nil, func(now instant, w writer) {
		w.gauge(float64(now.State.Index))
	}},
	{"workers", "Workers of this instance.", nil, func(now instant, w writer) {
		if !now.cfg.Passive {
			w.gauge(float64(now.State.Workers))
		}
	}},
	{"total_workers", "Workers in the whole cluster, as far as this instance knows. Without an assignment: of the others.", nil, func(now instant, w writer) {
		if !now.isCooperative() {
			w.gauge(float64(now.State.Total))
		}
	}},
	{"total_partitions", "In mode cooperative: partitions of the work.", nil, func(now instant, w writer) {
		if now.isCooperative() {
			w.gauge(float64(now.cfg.Partitions))
		}
	}},
	{"partitions_held", "In mode cooperative: partitions that this instance holds.", nil, func(now instant, w writer) {
		if !now.isCooperative() {
			return
		}
		held := 0
		for range now.State.Held() {
			held++
		}
		w.gauge(float64(held))
	}},
	{"generation", "The generation of this instance's state. Left out if it can't be compared.", nil, func(now instant, w writer) {
		if now.can.Members && now.can.Agreed && now.State.Generation > 0 {
			w.gauge(float64(now.State.Generation))
		}
	}},
	{"members", "Members that have an assignment, as far as this instance knows.", nil, func(now instant, w writer) {
		w.gauge(float64(len(now.Members)))
	}},
	{"covered", "Whether each index, or partition, is held by exactly one instance that is there. Left out by who has not looked lately.", nil, func(now instant, w writer) {
		if now.knowsCoverage() {
			w.truth(now.stats.Coverage.Covered)
		}
	}},
	{"blockers", "In modes with a plan: instances that the cluster waits for.", nil, func(now instant, w writer) {
		if now.cfg.Mode != libcluster.ModeDirect {
			w.gauge(float64(len(now.Blockers)))
		}
	}},
	{"seconds_until_deadline", "How long until this instance is fenced, unless its record is renewed. 0: it is fenced.", nil, func(now instant, w writer) {
		if now.stats.HasDeadline {
			w.gauge(now.stats.UntilDeadline.Seconds())
		}
	}},
	{"rebalances_total", "States that the application was given, index -1 included.", nil, func(now instant, w writer) {
		w.counter(now.stats.Rebalances)
	}},
	{"fences_total", "How often this instance was fenced.", []string{"reason"}, func(now instant, w writer) {
		counters(w, now.stats.Fences)
	}},
	{"rejoins_total", "How often this instance has joined again after a fence.", nil, func(now instant, w writer) {
		w.counter(now.stats.Rejoins)
	}},
	{"registry_errors_total", "Calls of the registry that have failed.", []string{"op"}, func(now instant, w writer) {
		counters(w, now.stats.RegistryErrors)
	}},
	{"renew_seconds", "Heartbeats that have succeeded, from sending to answer.", nil, func(now instant, w writer) {
		w.histogram(now.stats.Renewals)
	}},
	{"handover_seconds", "Changes of the plan that this instance has brought about as the coordinator, until all had what they should have.", []string{"kind"}, func(now instant, w writer) {
		if now.waits() {
			w.histogram(now.stats.HandOvers, "graceful")
			w.histogram(now.stats.CrashHandOvers, "crash")
		}
	}},
}
