// Manifests checks what the examples give to Kubernetes: it reads each object into the type that a
// Kubernetes server has for it, and refuses what that type has not, and finds what does not fit. It
// does the same with the dashboard, for which Grafana publishes types.
//
//	go -C internal/tools run ./manifests
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

func main() {
	err := try("../../examples/kubernetes/*.yaml", checkManifest, manifestMistakes)
	if err == nil {
		err = try("../../deploy/grafana-dashboard.json", checkDashboard, dashboardMistakes)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

// mistake is another text in the place of one.
type mistake struct{ old, new string }

// try checks files, and then that each mistake in them is found.
func try(pattern string, check func(text string) error, mistakes []mistake) error {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		return errors.Join(fmt.Errorf("there is no %s", pattern), err)
	}
	tried := map[string]bool{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := check(string(text)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		for _, m := range mistakes { // which must not count as fine
			wrong := strings.Replace(string(text), m.old, m.new, 1)
			if wrong == string(text) {
				continue
			}
			tried[m.new] = true
			if check(wrong) == nil {
				return fmt.Errorf("%s: %q in place of %q is not found", filepath.Base(name), m.new, m.old)
			}
		}
	}
	if len(tried) < len(mistakes) {
		return fmt.Errorf("%s: of %d mistakes only %v could be made", pattern, len(mistakes), slices.Sorted(maps.Keys(tried)))
	}
	fmt.Printf("%s: %d fine, and each of %d mistakes is found\n", filepath.Base(pattern), len(names), len(mistakes))
	return nil
}

// manifestMistakes are of each kind that checkManifest finds.
var manifestMistakes = []mistake{
	{"terminationGracePeriodSeconds:", "terminationGracePeriod:"},
	{"terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 5"},
	{"clusterIP: None", "clusterIP: 10.0.0.1"},
	{"serviceName: mailer", "serviceName: other"},
	{"kind: Deployment", "kind: Deploiment"},
	{"matchLabels:\n      app: mailer", "matchLabels:\n      app: other"},
	{"$(POD_NAME)", "$(POD)"},
	{"port: http", "port: web"},
}

// objects are those of one manifest.
type objects struct {
	services map[string]corev1.Service
	sets     []appsv1.StatefulSet
}

// checkManifest checks the objects of one file.
func checkManifest(manifest string) error {
	found := objects{services: map[string]corev1.Service{}}
	for _, text := range strings.Split(manifest, "\n---\n") {
		if err := found.add([]byte(text)); err != nil {
			return err
		}
	}
	for _, s := range found.sets {
		of, ok := found.services[s.Spec.ServiceName]
		switch {
		case !ok || of.Spec.ClusterIP != corev1.ClusterIPNone:
			return fmt.Errorf("there is no Service %q without an IP", s.Spec.ServiceName)
		case !within(of.Spec.Selector, s.Spec.Template.Labels):
			return fmt.Errorf("the Service %q does not select the pods", s.Spec.ServiceName)
		}
	}
	return nil
}

func (o *objects) add(text []byte) error {
	var kind struct{ Kind string }
	if err := yaml.Unmarshal(text, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "Service":
		var s corev1.Service
		err := decode(text, &s, corev1.SchemeGroupVersion.String(), &s.APIVersion)
		o.services[s.Name] = s
		return err
	case "Deployment":
		var d appsv1.Deployment
		if err := decode(text, &d, appsv1.SchemeGroupVersion.String(), &d.APIVersion); err != nil {
			return err
		}
		return checkPods(d.Spec.Selector.MatchLabels, d.Spec.Template)
	case "StatefulSet":
		var s appsv1.StatefulSet
		if err := decode(text, &s, appsv1.SchemeGroupVersion.String(), &s.APIVersion); err != nil {
			return err
		}
		o.sets = append(o.sets, s)
		return checkPods(s.Spec.Selector.MatchLabels, s.Spec.Template)
	}
	return fmt.Errorf("kind %q is none of those that are known here", kind.Kind)
}

// decode reads an object strictly, and wants it to have a version.
func decode(text []byte, object any, version string, got *string) error {
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		return err
	}
	if *got != version {
		return fmt.Errorf("apiVersion %q has to be %q", *got, version)
	}
	return nil
}

// checkPods checks what a server, or the kubelet, would find later.
func checkPods(selected map[string]string, pods corev1.PodTemplateSpec) error {
	if len(selected) == 0 || !within(selected, pods.Labels) {
		return errors.New("the selector does not select the pods")
	}
	for _, c := range pods.Spec.Containers {
		if err := checkContainer(c, pods.Spec.TerminationGracePeriodSeconds); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return nil
}

var reference = regexp.MustCompile(`\$\((\w+)\)`)

func checkContainer(c corev1.Container, grace *int64) error {
	ports, env := map[string]bool{}, map[string]bool{}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	for _, e := range c.Env {
		env[e.Name] = true
	}
	for _, arg := range c.Args {
		for _, name := range reference.FindAllStringSubmatch(arg, -1) {
			if !env[name[1]] {
				return fmt.Errorf("argument %q: there is no variable %s", arg, name[1])
			}
		}
	}
	for what, p := range map[string]*corev1.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil {
			return fmt.Errorf("there is no %s probe over HTTP", what)
		}
		if p.HTTPGet.Port.Type != intstr.String || !ports[p.HTTPGet.Port.StrVal] {
			return fmt.Errorf("the %s probe's port is %v, which is none of the container's", what, &p.HTTPGet.Port)
		}
	}
	switch {
	case c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil:
		return errors.New("no preStop hook that sleeps")
	case grace == nil || *grace <= 2*c.Lifecycle.PreStop.Sleep.Seconds:
		return errors.New("terminationGracePeriodSeconds leaves too little time after the preStop hook")
	}
	return nil
}

// within reports whether all has each label of some.
func within(some, all map[string]string) bool {
	both := maps.Clone(all)
	maps.Copy(both, some)
	return maps.Equal(both, all)
}
