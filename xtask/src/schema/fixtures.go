// Prints, as JSON, what upstream's own code makes of the inputs below: protobuf encodings, decoding errors, patches.
// The api crate's tests compare themselves with it.
package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"reflect"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	kjson "sigs.k8s.io/json"
)

type m = map[string]any

func object(apiVersion, kind string) runtime.Object {
	o, err := scheme.Scheme.New(schema.FromAPIVersionAndKind(apiVersion, kind))
	if err != nil {
		panic(err)
	}
	return o
}

var objects = []string{
	`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","creationTimestamp":"2024-02-29T01:02:03Z","labels":{"b":"","a":"x"},"ownerReferences":[{"apiVersion":"v1","kind":"ReplicaSet","name":"r","uid":"u","controller":false}],"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","time":"2024-02-29T01:02:03Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:x":{}}}}]},"spec":{"terminationGracePeriodSeconds":0,"hostNetwork":true,"containers":[{"name":"c","command":["sh","-c",""],"env":[{"name":"X","value":""},{"name":"Y","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],"resources":{"limits":{"cpu":"1500m","memory":"1.5Gi"},"requests":{"cpu":"0"}},"livenessProbe":{"httpGet":{"path":"/","port":"http"},"initialDelaySeconds":1},"readinessProbe":{"tcpSocket":{"port":80}},"lifecycle":{"preStop":{"exec":{"command":["x"]}}}}],"volumes":[{"name":"e","emptyDir":{}},{"name":"s","secret":{"secretName":"s","optional":false,"defaultMode":0}},{"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}],"tolerations":[{"operator":"Exists","tolerationSeconds":0}]},"status":{"phase":"Running","containerStatuses":[{"name":"c","ready":false,"restartCount":0,"image":"","imageID":"","state":{"running":{"startedAt":null}},"started":false}],"conditions":[{"type":"Ready","status":"False","lastProbeTime":null,"lastTransitionTime":"2024-02-29T01:02:03Z"}]}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80},{"name":"x","port":53,"protocol":"UDP","targetPort":"dns","nodePort":30053}],"selector":{"a":"b"},"clusterIP":"None"},"status":{"loadBalancer":{}}}`,
	`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["v"]}]},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":0}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":null}},"paused":false}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"y","z":""},"binaryData":{"b":"AAEC","e":""},"immutable":false}`,
	`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"x":"eQ=="},"type":"Opaque"}`,
	`{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7","remainingItemCount":3},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}`,
	`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"a"},"spec":{"holderIdentity":"h","leaseDurationSeconds":0,"renewTime":"2024-02-29T01:02:03.000004Z","acquireTime":"1969-12-31T23:59:59.500000Z"}}`,
	`{"apiVersion":"v1","kind":"Event","metadata":{"name":"a"},"involvedObject":{"kind":"Pod"},"eventTime":null,"firstTimestamp":"2024-02-29T01:02:03Z","lastTimestamp":null,"count":1}`,
	`{"apiVersion":"v1","kind":"Status","metadata":{},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"n","kind":"pods","causes":[{"reason":"r","field":"f"}],"retryAfterSeconds":1},"code":404}`,
	`{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"propagationPolicy":"Foreground","preconditions":{"uid":"u"},"dryRun":["All"],"orphanDependents":false}`,
	`{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a"}}`,
	`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","metadata":{},"spec":{"token":"t"},"status":{"authenticated":true,"user":{"username":"u","groups":["g"],"extra":{"a":["b","c"],"d":[]}}}}`,
	`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"a"},"spec":{"replicas":2},"status":{"replicas":0}}`,
	`{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"a"},"spec":{"minAvailable":"50%"},"status":{"disruptedPods":{"a":"2024-02-29T01:02:03Z","b":null},"disruptionsAllowed":0,"currentHealthy":0,"desiredHealthy":0,"expectedPods":0}}`,
	`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"a"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}],"aggregationRule":{}}`,
	`{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{"name":"a"},"revision":1,"data":{"spec":{"x":[1,null]}}}`,
	`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"foos.a.b"},"spec":{"group":"a.b","names":{"plural":"foos","kind":"Foo"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","required":["a"],"properties":{"a":{"type":"integer","minimum":0,"maximum":1.5,"default":3,"enum":[1,"x",null]},"b":{"type":"array","items":{"type":"string","pattern":"^a$"},"x-kubernetes-list-type":"set"},"c":{"type":"object","additionalProperties":{"type":"string","nullable":true}},"d":{"type":"object","additionalProperties":false,"x-kubernetes-preserve-unknown-fields":true},"e":{"anyOf":[{"type":"integer"},{"type":"string"}],"x-kubernetes-int-or-string":true,"x-kubernetes-validations":[{"rule":"self > 0","message":"m"}]}}}},"subresources":{"status":{},"scale":{"specReplicasPath":".spec.r","statusReplicasPath":".status.r"}},"additionalPrinterColumns":[{"name":"A","type":"string","jsonPath":".a","priority":0}]}]}}`,
	`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.a"},"spec":{"group":"a","version":"v1","groupPriorityMinimum":1,"versionPriority":2,"caBundle":"AAE=","service":{"name":"s","namespace":"n","port":443}}}`,
	`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"a"},"spec":{"podSelector":{},"ingress":[{"ports":[{"port":80},{"port":"x"}],"from":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}]}}`,
}

var bodies = []string{
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":"x"}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":{"name":"x"}}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":1}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[true]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":[]}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":"x"}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":1}}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"labels":["a"]}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"x"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2024-02-30T00:00:00Z"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2024-02-20 00:00:00Z"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2024-02-20T00:00:00"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2024-02-20T24:00:00Z"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2024-02-20T00:00:00+25:00"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":1}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"hostNetwork":"true"}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"priority":1.5}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"priority":3000000000}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"terminationGracePeriodSeconds":"30"}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"volumes":[{"emptyDir":3}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"volumes":[{"emptyDir":{"sizeLimit":"1Q"}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":"1.2.3"}}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":""}}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":{}}}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"livenessProbe":{"httpGet":{"port":1.5}}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"livenessProbe":{"httpGet":3}}]}}`,
	`{"apiVersion":"v1","kind":"Pod","spec":{"foo":1,"containers":[{"name":"a","bar":{"x":1,"x":2},"name":"b"}]},"kind":"Pod"}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":"b","a":"c"},"Name":"x"}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"x"}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"YW*x"}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"YWJj="}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"YWJ"}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"YW=="}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"YWI"}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":"YWJjZA="}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":3}}`,
	`{"apiVersion":"v1","kind":"Secret","data":{"a":[1,300]}}`,
	`{"apiVersion":"v1","kind":"Secret","data":"x"}`,
	`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":{"b":1}}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","immutable":"x"}`,
	`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":"3"}}`,
	`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"strategy":{"rollingUpdate":{"maxSurge":{}}}}}`,
	`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"template":{"spec":{"containers":[{"env":[{"value":1}]}]}}}}`,
	`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","spec":{"renewTime":"2024-02-29T01:02:03Z"}}`,
	`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","spec":{"renewTime":"2024-02-29T01:02:03.12Z"}}`,
	`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{"versions":[{"schema":{"openAPIV3Schema":{"additionalProperties":"x"}}}]}}`,
	`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"a":{"items":{"type":1}}}}}}]}}`,
	`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"a":{"foo":1}}}}}]}}`,
}

// Strategic merge patches: kind, object, patch.
var strategic = [][3]string{
	{"v1 Pod", `{"spec":{"containers":[{"name":"a","image":"1","env":[{"name":"X","value":"1"}]},{"name":"b"}]}}`, `{"spec":{"containers":[{"name":"a","image":"2","env":[{"name":"Y"}],"command":null},{"name":"c"}]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}}`, `{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"d"},{"name":"a"}],"containers":[{"name":"d"},{"name":"a","image":"2"}]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}}`, `{"spec":{"containers":[{"name":"b","$patch":"delete"}]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}`, `{"spec":{"containers":[{"$patch":"replace"},{"name":"z"}]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a"}]}}`, `{"spec":{"containers":[{"image":"x"}]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a"}]}}`, `{"spec":{"containers":[[1]]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a"}]}}`, `{"spec":{"containers":null}}`},
	{"v1 Pod", `{"spec":{"nodeSelector":{"a":"1","b":"2"}}}`, `{"spec":{"nodeSelector":{"a":null,"c":"3"}}}`},
	{"v1 Pod", `{"spec":{"nodeSelector":{"a":"1","b":"2"}}}`, `{"spec":{"nodeSelector":{"$patch":"replace","c":"3"}}}`},
	{"v1 Pod", `{"spec":{"nodeSelector":{"a":"1","b":"2"}}}`, `{"spec":{"$patch":"delete"}}`},
	{"v1 Pod", `{"spec":{"tolerations":[{"key":"a"}]}}`, `{"spec":{"tolerations":[{"key":"b"}]}}`},
	{"v1 Pod", `{"spec":{"foo":{"a":{}}}}`, `{"spec":{"foo":{"a":{"b":1}}}}`},
	{"v1 Pod", `{"metadata":{"finalizers":["a","b","c"]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"],"$setElementOrder/finalizers":["d","a","c"],"finalizers":["d"]}}`},
	{"v1 Pod", `{"metadata":{"finalizers":["a","b"]}}`, `{"metadata":{"finalizers":["b","c"]}}`},
	{"v1 Pod", `{"metadata":{"ownerReferences":[{"uid":"1","name":"a"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"1","$patch":"delete"},{"uid":"2","name":"b"}]}}`},
	{"v1 Pod", `{"spec":{"volumes":[{"name":"v","emptyDir":{"medium":"Memory"}}]}}`, `{"spec":{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}}`},
	{"v1 Pod", `{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}`, `{"spec":{"volumes":[{"name":"v","$retainKeys":["name"],"hostPath":{"path":"/x"}}]}}`},
	{"v1 Pod", `{"spec":{"volumes":[{"name":"v","emptyDir":{"a":1}}]}}`, `{"spec":{"volumes":[{"name":"v","emptyDir":null,"hostPath":{"path":"/x","type":null}}]}}`},
	{"v1 Pod", `{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"protocol":"TCP"},{"containerPort":81}]}]}}`, `{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"x"}]}]}}`},
	{"v1 Service", `{"spec":{"ports":[{"port":80,"name":"http"},{"port":53,"protocol":"UDP"}]}}`, `{"spec":{"ports":[{"port":53,"nodePort":30053},{"port":81}]}}`},
	{"v1 Service", `{"spec":{"ports":[{"port":80,"name":"http"},{"port":81}]}}`, `{"spec":{"$setElementOrder/ports":[{"port":81},{"port":80}],"ports":[{"port":80,"name":null}]}}`},
	{"v1 Service", `{"spec":{"ports":[{"port":80,"name":"http"},{"port":81}]}}`, `{"spec":{"$setElementOrder/ports":[{"port":81}],"ports":[{"port":80,"name":"x"}]}}`},
	{"v1 Service", `{"spec":{}}`, `{"spec":{"$setElementOrder/ports":[{"port":81}],"ports":[{"port":81,"name":"x"}]}}`},
	{"apps/v1 Deployment", `{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}`, `{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}`},
	{"apps/v1 Deployment", `{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"1"}]}}}}`, `{"spec":{"template":{"metadata":{"annotations":{"x":"y"}},"spec":{"containers":[{"name":"a","image":"2"}],"initContainers":[{"name":"i","$patch":"delete"},{"name":"j"}]}}}}`},
	{"v1 Node", `{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"X","status":"False"}]}}`, `{"status":{"$setElementOrder/conditions":[{"type":"X"},{"type":"Ready"}],"conditions":[{"type":"Ready","status":"False"}]}}`},
	{"v1 Pod", `{"a":1}`, `{"$patch":"boo"}`},
	{"v1 Pod", `{"a":1}`, `{"$retainKeys":1}`},
	{"v1 Pod", `{"a":1}`, `{"$setElementOrder":[]}`},
	{"v1 Pod", `{"a":1}`, `{"metadata":{"name":null,"labels":{"x":null,"y":"z"}}}`},
}

// JSON patches: object, patch.
var patches = [][2]string{
	{`{"a":1}`, `[{"op":"add","path":"/b","value":{"c":[]}},{"op":"add","path":"/b/c/-","value":2}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/1","value":9},{"op":"remove","path":"/a/0"}]`},
	{`{"a":[1,2]}`, `[{"op":"replace","path":"/a/-1","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/-1","value":3}]`},
	{`{"a/b":1,"c~d":2}`, `[{"op":"remove","path":"/a~1b"},{"op":"replace","path":"/c~0d","value":null}]`},
	{`{"a":{"b":1}}`, `[{"op":"move","from":"/a/b","path":"/c"},{"op":"copy","from":"/c","path":"/d"}]`},
	{`{"a":1}`, `[{"op":"test","path":"/a","value":1},{"op":"test","path":"/b","value":null},{"op":"replace","path":"/b","value":2}]`},
	{`{"a":1}`, `[{"op":"replace","path":"","value":{"b":1}}]`},
	{`{"a":1}`, `{}`},
	{`{"a":1}`, `[1]`},
	{`{"a":1}`, `[{"op":"boo","path":"/a"}]`},
	{`{"a":1}`, `[{"path":"/a"}]`},
	{`{"a":1}`, `[{"op":"add","value":1}]`},
	{`{"a":1}`, `[{"op":"add","path":"/x/y","value":1}]`},
	{`{"a":1}`, `[{"op":"add","path":"","value":1}]`},
	{`{"a":1}`, `[{"op":"remove","path":"/x"}]`},
	{`{"a":1}`, `[{"op":"remove","path":"/a/b"}]`},
	{`{"l":[1]}`, `[{"op":"remove","path":"/l/7"}]`},
	{`{"l":[1]}`, `[{"op":"remove","path":"/l/-7"}]`},
	{`{"l":[1]}`, `[{"op":"remove","path":"/l/x"}]`},
	{`{"l":[1]}`, `[{"op":"add","path":"/l/z","value":1}]`},
	{`{"l":[1]}`, `[{"op":"add","path":"/l/9","value":1}]`},
	{`{"l":[1]}`, `[{"op":"replace","path":"/l/9","value":2}]`},
	{`{"a":1}`, `[{"op":"test","path":"/a","value":2}]`},
	{`{"a":1}`, `[{"op":"test","path":"/a"}]`},
	{`{"a":{"b":[1]}}`, `[{"op":"test","path":"","value":{"a":{"b":[1]}}}]`},
	{`{"a":1}`, `[{"op":"move","from":"/q","path":"/a"}]`},
	{`{"a":1}`, `[{"op":"copy","from":"/q/r","path":"/a"}]`},
	{`{"a":1}`, `[{"op":"copy","from":"/q","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"move","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"move","from":"/a"}]`},
	{`{"a":1}`, `[{"op":"copy","from":"/a"}]`},
	{`{"a":1}`, `[{"op":"test"}]`},
	{`{"a":1}`, `[{"op":"remove"}]`},
	{`{"a":1}`, `[{"op":"replace"}]`},
}

func fails(out m, err error) m {
	if err != nil {
		out["error"] = err.Error()
		delete(out, "result")
	}
	return out
}

func main() {
	for _, add := range []func(*runtime.Scheme) error{apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme.Scheme); err != nil {
			panic(err)
		}
	}
	out := map[string][]m{}
	add := func(list string, item m) { out[list] = append(out[list], item) }
	serializer := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	decode := func(text string) (runtime.Object, []error, error) {
		var meta struct{ APIVersion, Kind string }
		if err := json.Unmarshal([]byte(text), &meta); err != nil {
			panic(err)
		}
		o := object(meta.APIVersion, meta.Kind)
		strict, err := kjson.UnmarshalStrict([]byte(text), o)
		return o, strict, err
	}
	for _, text := range objects {
		o, strict, err := decode(text)
		if err != nil || len(strict) > 0 {
			panic(text)
		}
		var b strings.Builder
		if err := serializer.Encode(o, &b); err != nil {
			panic(err)
		}
		printed, err := json.Marshal(o)
		if err != nil {
			panic(err)
		}
		add("objects", m{"input": json.RawMessage(text), "printed": json.RawMessage(printed), "protobuf": base64.StdEncoding.EncodeToString([]byte(b.String()))})
	}
	for _, text := range bodies {
		_, strict, err := decode(text)
		item := fails(m{"input": text}, err)
		if err == nil {
			item["strict"] = []string{}
			for _, e := range strict {
				item["strict"] = append(item["strict"].([]string), e.Error())
			}
		}
		add("bodies", item)
	}
	for _, c := range strategic {
		gvk := strings.Split(c[0], " ")
		o := reflect.ValueOf(object(gvk[0], gvk[1])).Elem().Interface()
		result, err := strategicpatch.StrategicMergePatch([]byte(c[1]), []byte(c[2]), o)
		add("strategic", fails(m{"kind": c[0], "object": json.RawMessage(c[1]), "patch": json.RawMessage(c[2]), "result": json.RawMessage(result)}, err))
	}
	for _, c := range patches {
		item := m{"object": json.RawMessage(c[0]), "patch": json.RawMessage(c[1])}
		p, err := jsonpatch.DecodePatch([]byte(c[1]))
		if err == nil {
			var result []byte
			result, err = p.Apply([]byte(c[0]))
			item["result"] = json.RawMessage(result)
		}
		add("json", fails(item, err))
	}
	customResources(add)
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(out); err != nil {
		panic(err)
	}
}
