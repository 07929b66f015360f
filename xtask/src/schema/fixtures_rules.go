// Prints, as JSON, what upstream's strategies and printers make of the objects in rules.json and of each with one thing in
// it changed: the object as it would be stored, the errors, the row of the table. The api crate's tests compare themselves
// with it. Only cases with an error unlike those before are kept.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"
	printerstorage "k8s.io/kubernetes/pkg/printers/storage"

	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"

	admissionregistrationmutatingwebhookconfiguration "k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	admissionregistrationvalidatingwebhookconfiguration "k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	appscontrollerrevision "k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	appsdaemonset "k8s.io/kubernetes/pkg/registry/apps/daemonset"
	appsdeployment "k8s.io/kubernetes/pkg/registry/apps/deployment"
	appsreplicaset "k8s.io/kubernetes/pkg/registry/apps/replicaset"
	appsstatefulset "k8s.io/kubernetes/pkg/registry/apps/statefulset"
	autoscalinghorizontalpodautoscaler "k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	batchcronjob "k8s.io/kubernetes/pkg/registry/batch/cronjob"
	batchjob "k8s.io/kubernetes/pkg/registry/batch/job"
	certificatescertificates "k8s.io/kubernetes/pkg/registry/certificates/certificates"
	coordinationlease "k8s.io/kubernetes/pkg/registry/coordination/lease"
	coreconfigmap "k8s.io/kubernetes/pkg/registry/core/configmap"
	coreendpoint "k8s.io/kubernetes/pkg/registry/core/endpoint"
	coreevent "k8s.io/kubernetes/pkg/registry/core/event"
	corelimitrange "k8s.io/kubernetes/pkg/registry/core/limitrange"
	corenamespace "k8s.io/kubernetes/pkg/registry/core/namespace"
	corenode "k8s.io/kubernetes/pkg/registry/core/node"
	corepersistentvolume "k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	corepersistentvolumeclaim "k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	corepod "k8s.io/kubernetes/pkg/registry/core/pod"
	corepodtemplate "k8s.io/kubernetes/pkg/registry/core/podtemplate"
	corereplicationcontroller "k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	coreresourcequota "k8s.io/kubernetes/pkg/registry/core/resourcequota"
	coresecret "k8s.io/kubernetes/pkg/registry/core/secret"
	coreservice "k8s.io/kubernetes/pkg/registry/core/service"
	coreserviceaccount "k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	discoveryendpointslice "k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	flowcontrolflowschema "k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	flowcontrolprioritylevelconfiguration "k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	networkingingress "k8s.io/kubernetes/pkg/registry/networking/ingress"
	networkingingressclass "k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	networkingipaddress "k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	networkingnetworkpolicy "k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	networkingservicecidr "k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	noderuntimeclass "k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	policypoddisruptionbudget "k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	rbacclusterrole "k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	rbacclusterrolebinding "k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	rbacrole "k8s.io/kubernetes/pkg/registry/rbac/role"
	rbacrolebinding "k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	schedulingpriorityclass "k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	storagecsidriver "k8s.io/kubernetes/pkg/registry/storage/csidriver"
	storagecsinode "k8s.io/kubernetes/pkg/registry/storage/csinode"
	storagecsistoragecapacity "k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	storagestorageclass "k8s.io/kubernetes/pkg/registry/storage/storageclass"
	storagevolumeattachment "k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	storagevolumeattributesclass "k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
)

type m = map[string]any

//go:embed rules.json
var corpus []byte

var strategies = map[string]any{
	"Pod":                                corepod.Strategy,
	"Pod/status":                         corepod.StatusStrategy,
	"Service":                            coreservice.Strategy,
	"Service/status":                     coreservice.StatusStrategy,
	"Node":                               corenode.Strategy,
	"Node/status":                        corenode.StatusStrategy,
	"Namespace":                          corenamespace.Strategy,
	"Namespace/status":                   corenamespace.StatusStrategy,
	"ConfigMap":                          coreconfigmap.Strategy,
	"Secret":                             coresecret.Strategy,
	"ServiceAccount":                     coreserviceaccount.Strategy,
	"Endpoints":                          coreendpoint.Strategy,
	"Event":                              coreevent.Strategy,
	"LimitRange":                         corelimitrange.Strategy,
	"ResourceQuota":                      coreresourcequota.Strategy,
	"ResourceQuota/status":               coreresourcequota.StatusStrategy,
	"PersistentVolume":                   corepersistentvolume.Strategy,
	"PersistentVolume/status":            corepersistentvolume.StatusStrategy,
	"PersistentVolumeClaim":              corepersistentvolumeclaim.Strategy,
	"PersistentVolumeClaim/status":       corepersistentvolumeclaim.StatusStrategy,
	"PodTemplate":                        corepodtemplate.Strategy,
	"ReplicationController":              corereplicationcontroller.Strategy,
	"ReplicationController/status":       corereplicationcontroller.StatusStrategy,
	"Deployment":                         appsdeployment.Strategy,
	"Deployment/status":                  appsdeployment.StatusStrategy,
	"ReplicaSet":                         appsreplicaset.Strategy,
	"ReplicaSet/status":                  appsreplicaset.StatusStrategy,
	"DaemonSet":                          appsdaemonset.Strategy,
	"DaemonSet/status":                   appsdaemonset.StatusStrategy,
	"StatefulSet":                        appsstatefulset.Strategy,
	"StatefulSet/status":                 appsstatefulset.StatusStrategy,
	"ControllerRevision":                 appscontrollerrevision.Strategy,
	"Job":                                batchjob.Strategy,
	"Job/status":                         batchjob.StatusStrategy,
	"CronJob":                            batchcronjob.Strategy,
	"CronJob/status":                     batchcronjob.StatusStrategy,
	"HorizontalPodAutoscaler":            autoscalinghorizontalpodautoscaler.Strategy,
	"HorizontalPodAutoscaler/status":     autoscalinghorizontalpodautoscaler.StatusStrategy,
	"PodDisruptionBudget":                policypoddisruptionbudget.Strategy,
	"PodDisruptionBudget/status":         policypoddisruptionbudget.StatusStrategy,
	"Ingress":                            networkingingress.Strategy,
	"Ingress/status":                     networkingingress.StatusStrategy,
	"IngressClass":                       networkingingressclass.Strategy,
	"NetworkPolicy":                      networkingnetworkpolicy.Strategy,
	"IPAddress":                          networkingipaddress.Strategy,
	"ServiceCIDR":                        networkingservicecidr.Strategy,
	"ServiceCIDR/status":                 networkingservicecidr.StatusStrategy,
	"EndpointSlice":                      discoveryendpointslice.Strategy,
	"Role":                               rbacrole.Strategy,
	"ClusterRole":                        rbacclusterrole.Strategy,
	"RoleBinding":                        rbacrolebinding.Strategy,
	"ClusterRoleBinding":                 rbacclusterrolebinding.Strategy,
	"StorageClass":                       storagestorageclass.Strategy,
	"CSIDriver":                          storagecsidriver.Strategy,
	"CSINode":                            storagecsinode.Strategy,
	"CSIStorageCapacity":                 storagecsistoragecapacity.Strategy,
	"VolumeAttachment":                   storagevolumeattachment.Strategy,
	"VolumeAttachment/status":            storagevolumeattachment.StatusStrategy,
	"VolumeAttributesClass":              storagevolumeattributesclass.Strategy,
	"PriorityClass":                      schedulingpriorityclass.Strategy,
	"RuntimeClass":                       noderuntimeclass.Strategy,
	"Lease":                              coordinationlease.Strategy,
	"CertificateSigningRequest":          certificatescertificates.Strategy,
	"CertificateSigningRequest/status":   certificatescertificates.StatusStrategy,
	"ValidatingWebhookConfiguration":     admissionregistrationvalidatingwebhookconfiguration.Strategy,
	"MutatingWebhookConfiguration":       admissionregistrationmutatingwebhookconfiguration.Strategy,
	"FlowSchema":                         flowcontrolflowschema.Strategy,
	"FlowSchema/status":                  flowcontrolflowschema.StatusStrategy,
	"PriorityLevelConfiguration":         flowcontrolprioritylevelconfiguration.Strategy,
	"PriorityLevelConfiguration/status":  flowcontrolprioritylevelconfiguration.StatusStrategy,
	"Pod/ephemeralcontainers":            corepod.EphemeralContainersStrategy,
	"Pod/resize":                         corepod.ResizeStrategy,
	"Namespace/finalize":                 corenamespace.FinalizeStrategy,
	"CertificateSigningRequest/approval": certificatescertificates.ApprovalStrategy,
}

var table = printerstorage.TableConvertor{TableGenerator: printers.NewTableGenerator().With(printersinternal.AddHandlers)}

func decode(v any) (runtime.Object, schema.GroupVersionKind, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	o, gvk, err := legacyscheme.Codecs.UniversalDecoder().Decode(raw, nil, nil)
	if err != nil {
		return nil, schema.GroupVersionKind{}, err
	}
	return o, *gvk, nil
}

func encode(o runtime.Object, gv schema.GroupVersion) any {
	var b bytes.Buffer
	if err := legacyscheme.Codecs.LegacyCodec(gv).Encode(o, &b); err != nil {
		panic(err)
	}
	return clone(json.RawMessage(b.Bytes()))
}

func clone(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var copied any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&copied); err != nil {
		panic(err)
	}
	return copied
}

// Puts a value at a JSON pointer; nil removes.
func put(v any, pointer string, to any) any {
	steps := strings.SplitN(pointer, "/", 3)
	step := strings.ReplaceAll(strings.ReplaceAll(steps[1], "~1", "/"), "~0", "~")
	last := len(steps) == 2
	switch v := v.(type) {
	case m:
		if !last {
			v[step] = put(v[step], "/"+steps[2], to)
		} else if to == nil {
			delete(v, step)
		} else {
			v[step] = to
		}
		return v
	case []any:
		i, _ := strconv.Atoi(step)
		if !last {
			v[i] = put(v[i], "/"+steps[2], to)
		} else if to == nil {
			return slices.Delete(v, i, i+1)
		} else {
			v[i] = to
		}
		return v
	}
	panic(pointer)
}

// Calls visit with every place in v and what to put there.
func mutate(v any, at string, visit func(at string, to any)) {
	switch v := v.(type) {
	case m:
		keys := []string{}
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			place := at + "/" + strings.ReplaceAll(strings.ReplaceAll(k, "~", "~0"), "/", "~1")
			if place == "/metadata" || strings.HasPrefix(place, "/metadata/name") || place == "/apiVersion" || place == "/kind" {
				continue
			}
			visit(place, nil)
			for _, to := range values(v[k]) {
				visit(place, to)
			}
			mutate(v[k], place, visit)
		}
	case []any:
		for i := range v {
			place := at + "/" + strconv.Itoa(i)
			visit(place, nil)
			for _, to := range values(v[i]) {
				visit(place, to)
			}
			mutate(v[i], place, visit)
		}
	}
}

func values(v any) []any {
	switch v := v.(type) {
	case string:
		return []any{"", "Bad_Name!", "a", "-x", "a.b", "/", "../x", "10.0.0.1", "2m", strings.Repeat("x", 64)}
	case json.Number:
		return []any{-1, 0, 1, 70000, "150%", "name"}
	case bool:
		return []any{!v}
	case []any:
		if len(v) > 0 {
			return []any{[]any{}, append(slices.Clone(v), v[0])}
		}
	case m:
		odd := m{"bad key!": "bad value!"}
		for k, text := range v {
			if _, ok := text.(string); !ok {
				return []any{m{}}
			}
			odd[k] = text
		}
		return []any{m{}, odd}
	}
	return nil
}

func requestOf(o runtime.Object, gvk schema.GroupVersionKind, sub, verb string) context.Context {
	object, _ := meta.Accessor(o)
	ctx := genericapirequest.WithNamespace(context.Background(), object.GetNamespace())
	ctx = genericapirequest.WithUser(ctx, &user.DefaultInfo{Name: "user"})
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: verb, APIGroup: gvk.Group, APIVersion: gvk.Version, Resource: plural.Resource,
		Subresource: sub, Namespace: object.GetNamespace(), Name: object.GetName()})
}

func faults(err error) (found []string) {
	if err == nil {
		return nil
	}
	status, ok := err.(apierrors.APIStatus)
	if !ok || status.Status().Details == nil {
		panic(err)
	}
	for _, cause := range status.Status().Details.Causes {
		text := cause.Field + ": " + cause.Message
		if text = strings.SplitN(text, "\n", 2)[0]; !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	slices.Sort(found)
	return found
}

func create(v any) (stored any, found []string, err error) {
	o, gvk, err := decode(v)
	if err != nil {
		return nil, nil, err
	}
	object, _ := meta.Accessor(o)
	object.SetUID("uid")
	object.SetCreationTimestamp(metav1.Time{Time: time.Unix(1700000000, 0)})
	failure := rest.BeforeCreate(strategies[gvk.Kind].(rest.RESTCreateStrategy), requestOf(o, gvk, "", "create"), o)
	return encode(o, gvk.GroupVersion()), faults(failure), nil
}

func update(v, old any, sub string) (found []string, err error) {
	o, gvk, err := decode(v)
	if err != nil {
		return nil, err
	}
	before, _, _ := decode(old)
	name := gvk.Kind
	if sub != "" {
		name += "/" + sub
	}
	return faults(rest.BeforeUpdate(strategies[name].(rest.RESTUpdateStrategy), requestOf(o, gvk, sub, "update"), o, before)), nil
}

// What makes errors alike: all but values and positions.
func shape(fault string) string {
	var b strings.Builder
	quoted := false
	for _, c := range fault {
		if c == '"' {
			quoted = !quoted
		}
		if !quoted && (c < '0' || c > '9') {
			b.WriteRune(c)
		}
	}
	return b.String()
}

func attempt(f func() ([]string, error)) (found []string) {
	defer func() {
		if recover() != nil {
			found = nil
		}
	}()
	found, err := f()
	if err != nil {
		return nil
	}
	return found
}

func main() {
	var entries []m
	d := json.NewDecoder(bytes.NewReader(corpus))
	d.UseNumber()
	if err := d.Decode(&entries); err != nil {
		panic(err)
	}
	seen := map[string]bool{}
	objects, cases := []any{}, []any{}
	for i, entry := range entries {
		object := entry["object"].(m)
		kind := object["kind"].(string)
		input := clone(object).(m)
		if kind != "Namespace" {
			delete(input, "status")
		}
		stored, found, err := create(input)
		if err != nil || len(found) > 0 {
			panic(fmt.Sprint(kind, err, found))
		}
		old := clone(stored).(m)
		old["metadata"].(m)["resourceVersion"] = "1"
		if status, ok := object["status"]; ok {
			old["status"] = clone(status)
		}
		shown := m{"input": input, "stored": stored, "old": old}
		if o, gvk, err := decode(old); err == nil {
			if t, err := table.ConvertToTable(requestOf(o, gvk, "", "list"), o, &metav1.TableOptions{}); err == nil {
				columns := []any{}
				for _, c := range t.ColumnDefinitions {
					columns = append(columns, []any{c.Name, c.Type, c.Format, c.Priority})
				}
				shown["columns"], shown["cells"] = columns, t.Rows[0].Cells
			}
		}
		objects = append(objects, shown)
		keep := func(sub, verb, at string, to any, found []string) {
			fresh := false
			for _, fault := range found {
				key := shape(fault)
				fresh = fresh || !seen[key]
				seen[key] = true
			}
			if fresh {
				cases = append(cases, m{"object": i, "verb": verb, "sub": sub, "at": at, "to": to, "errors": found})
			}
		}
		mutate(input, "", func(at string, to any) {
			keep("", "create", at, to, attempt(func() ([]string, error) {
				_, found, err := create(put(clone(input), at, to))
				return found, err
			}))
		})
		subs := []string{""}
		if _, ok := strategies[kind+"/status"]; ok {
			subs = append(subs, "status")
		}
		for _, sub := range subs {
			mutate(old, "", func(at string, to any) {
				if strings.HasPrefix(at, "/metadata/") && at != "/metadata/finalizers/0" {
					return
				}
				keep(sub, "update", at, to, attempt(func() ([]string, error) {
					return update(put(clone(old), at, to), clone(old), sub)
				}))
			})
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	if err := out.Encode(m{"objects": objects, "cases": cases}); err != nil {
		panic(err)
	}
}
