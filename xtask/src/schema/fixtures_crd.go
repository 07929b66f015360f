package main

import (
	"context"
	"encoding/json"
	"sort"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Schemas that are put into a definition of one version, and whether it has a status subresource.
var schemas = []string{
	`{"type":"object"}`,
	`{}`,
	`{"type":"string"}`,
	`{"type":"object","nullable":true}`,
	`{"type":"object","properties":{"spec":{}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"array"}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"array","items":{}}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"foo"}}}`,
	`{"type":"object","properties":{"spec":{"type":"null"}}}`,
	`{"type":"object","additionalProperties":{"type":"string"}}`,
	`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":{"type":"string"}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","additionalProperties":true,"x-kubernetes-preserve-unknown-fields":true}}}`,
	`{"type":"object","x-kubernetes-preserve-unknown-fields":false}`,
	`{"type":"object","properties":{"spec":{"x-kubernetes-preserve-unknown-fields":true}}}`,
	`{"type":"object","properties":{"spec":{"x-kubernetes-int-or-string":true}}}`,
	`{"type":"object","properties":{"spec":{"x-kubernetes-int-or-string":true,"x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-embedded-resource":true}}}`,
	`{"type":"object","properties":{"spec":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}],"pattern":"^a"}}}`,
	`{"type":"object","properties":{"spec":{"x-kubernetes-int-or-string":true,"allOf":[{"anyOf":[{"type":"integer"},{"type":"string"}]},{"pattern":"["}]}}}`,
	`{"type":"object","properties":{"spec":{"anyOf":[{"type":"integer"},{"type":"string"}],"type":"string"}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-embedded-resource":true}}}`,
	`{"type":"object","properties":{"spec":{"type":"string","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"kind":{"type":"integer"},"metadata":{"type":"string"}}}}}`,
	`{"type":"object","properties":{"metadata":{"type":"object","properties":{"name":{"type":"string"}}},"kind":{"type":"string"}}}`,
	`{"type":"object","properties":{"metadata":{"type":"object","properties":{"labels":{"type":"object"}}},"apiVersion":{"type":"integer"}}}`,
	`{"type":"object","properties":{"metadata":{"type":"object","properties":{"name":{"type":"string","default":"x"}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","allOf":[{"properties":{"a":{"minimum":1}}}],"not":{"items":{}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer"}},"oneOf":[{"properties":{"a":{"type":"integer","default":1,"description":"x","title":"y","nullable":true}},"required":["a"]},{"additionalProperties":false}],"anyOf":[{"x-kubernetes-preserve-unknown-fields":true},{"properties":{"metadata":{}}}]}}}`,
	`{"type":"object","properties":{"spec":{"type":"string","pattern":"a(b"}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","uniqueItems":true,"items":{"type":"string"}}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-type":"map","items":{"type":"object","properties":{"a":{"type":"string"}}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["a","b","a"],"items":{"type":"object","nullable":true,"required":["b"],"properties":{"a":{"type":"string","nullable":true},"b":{"type":"object"}}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["c"],"items":{"type":"object","properties":{"a":{"type":"string"}}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["c"],"items":{"type":"string"}}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-type":"foo","x-kubernetes-list-map-keys":["c"],"items":{"type":"string"}}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-map-keys":["c"],"items":{"type":"string"}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-list-type":"set","x-kubernetes-map-type":"foo"},"b":{"type":"string","x-kubernetes-map-type":"atomic"}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object","properties":{"a":{"type":"string"}}}},"b":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string","nullable":true}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","default":{"a":"x","b":1},"properties":{"a":{"type":"integer"}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer","default":3,"minimum":4},"b":{"type":"string","default":"x","enum":["a","b"]}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true,"default":{"foo":1}}}}}}`,
	`{"type":"object","properties":{"spec":{"type":"string","id":"x","$ref":"#/a"}}}`,
	`{"type":"object","properties":{"spec":{"type":"array","items":[{"type":"string"}]}}}`,
	`{"type":"object","properties":{"spec":{"type":"object","patternProperties":{"a":{"type":"string"}},"definitions":{"b":{"type":"string"}},"dependencies":{"c":["d"]}}}}`,
	`{"type":"object","title":"x","required":["spec"],"anyOf":[{"required":["spec"]}],"properties":{"spec":{"type":"object"}}}`,
	`{"type":"object","properties":{"spec":{"type":"string","x-kubernetes-validations":[{"rule":" "},{"rule":"true","message":" "},{"rule":"true","message":"a\nb"},{"rule":"true\n","reason":"foo"},{"rule":"true ||\n false"}]}}}`,
}

// Whole definitions, as changes to a good one.
var definitions = []string{
	`{}`,
	`{"metadata":{"name":"bars.example.com"}}`,
	`{"spec":{"group":"example"}}`,
	`{"spec":{"group":"Example.com"}}`,
	`{"spec":{"group":"example.k8s.io"},"metadata":{"name":"foos.example.k8s.io"}}`,
	`{"spec":{"group":"example.k8s.io"},"metadata":{"name":"foos.example.k8s.io","annotations":{"api-approved.kubernetes.io":"yes"}}}`,
	`{"spec":{"group":"example.k8s.io"},"metadata":{"name":"foos.example.k8s.io","annotations":{"api-approved.kubernetes.io":"https://a.b/c"}}}`,
	`{"spec":{"scope":"Foo"}}`,
	`{"spec":{"scope":""}}`,
	`{"spec":{"names":{"plural":"Foos","kind":"foo_","listKind":"foo_","shortNames":["a","B"],"categories":["all","-"],"singular":"x"}}}`,
	`{"spec":{"preserveUnknownFields":true}}`,
	`{"spec":{"versions":[]}}`,
	`{"spec":{"versions":[{"name":"v1","served":true,"storage":true}]}}`,
	`{"spec":{"versions":[{"name":"V1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`,
	`{"spec":{"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}},{"name":"v1","served":true,"storage":true,"deprecationWarning":"x","schema":{"openAPIV3Schema":{}}}]}}`,
	`{"spec":{"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}},"subresources":{"scale":{"specReplicasPath":".x","statusReplicasPath":"status.a","labelSelectorPath":".foo.bar"}},"additionalPrinterColumns":[{"name":"","type":"foo","jsonPath":"a","format":"bar"},{"name":"a","type":"","jsonPath":""}]}]}}`,
	`{"spec":{"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"},"o":{"type":"object"}}}}}},"selectableFields":[{"jsonPath":".spec.a"},{"jsonPath":".spec.a"},{"jsonPath":".spec.o"},{"jsonPath":".spec.z"},{"jsonPath":""},{"jsonPath":".spec['a']"}]}]}}`,
	`{"spec":{"conversion":{"strategy":"Foo"}}}`,
	`{"spec":{"conversion":{"strategy":"Webhook"}}}`,
	`{"spec":{"conversion":{"strategy":"Webhook","webhook":{"clientConfig":{"url":"http://a","service":{"name":"","namespace":""}},"conversionReviewVersions":["v2","v2","V3"]}}}}`,
	`{"spec":{"conversion":{"strategy":"Webhook","webhook":{"clientConfig":{"url":"http://a"},"conversionReviewVersions":["v1"]}}}}`,
	`{"spec":{"conversion":{"strategy":"Webhook","webhook":{"clientConfig":{"service":{"name":"","namespace":"","path":"x//Y"}},"conversionReviewVersions":["v1"]}}}}`,
	`{"spec":{"conversion":{"strategy":"None","webhook":{"clientConfig":{"url":"https://a"},"conversionReviewVersions":["v1"]}}}}`,
}

// Objects: schema, object, and the object that it replaces, if any.
var resources = [][3]string{
	{`{"type":"object","properties":{"spec":{"type":"object","required":["a","q"],"properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"boolean"},"d":{"type":"array","items":{"type":"number"}},"e":{"type":"object"}}}}}`, `{"apiVersion":"a/v1","kind":"A","metadata":{"name":"x"},"spec":{"a":"x","b":1,"c":"true","d":[1,"x",1.5,null],"e":[],"f":{"g":1},"h":null},"status":{"x":1}}`, ``},
	{`{"type":"object","required":["spec"],"properties":{"spec":{"type":"object"}}}`, `{"apiVersion":"a/v1","kind":"A","metadata":{"name":"x"},"foo":{"bar":1}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer","minimum":1,"maximum":5,"multipleOf":2},"b":{"type":"number","minimum":0.5,"exclusiveMinimum":true,"maximum":1.5},"c":{"type":"integer","format":"int32"},"d":{"type":"integer"},"e":{"type":"number","multipleOf":0.1},"f":{"type":"integer","maximum":3,"exclusiveMaximum":true}}}}}`, `{"spec":{"a":7,"b":0.5,"c":3000000000,"d":1.5,"e":0.25,"f":3}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer","minimum":1,"maximum":5},"b":{"type":"number","minimum":0.5,"maximum":1.5},"d":{"type":"integer"}}}}}`, `{"spec":{"a":0,"b":7,"d":1.0}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string","minLength":3},"b":{"type":"string","maxLength":3},"c":{"type":"string","pattern":"^[a-z]+$"},"d":{"type":"string","enum":["x","y"]},"e":{"type":"array","minItems":2,"items":{"type":"string"}},"f":{"type":"array","maxItems":1,"items":{"type":"string"}},"g":{"type":"object","minProperties":1,"x-kubernetes-preserve-unknown-fields":true},"h":{"type":"object","maxProperties":1,"additionalProperties":{"type":"string"}}}}}}`, `{"spec":{"a":"é1","b":"abcd","c":"A1","d":"z","e":["a"],"f":["a","b"],"g":{},"h":{"a":"b","c":1}}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string","format":"uuid"},"b":{"type":"string","format":"date-time"},"c":{"type":"string","format":"ipv4"},"d":{"type":"string","format":"email"},"e":{"type":"string","format":"unknown"},"f":{"type":"string","format":"date"},"g":{"type":"string","format":"byte"},"h":{"type":"string","format":"duration"},"i":{"type":"string","format":"cidr"},"j":{"type":"string","format":"uri"},"k":{"type":"string","format":"hostname"},"l":{"type":"string","format":"ipv6"},"m":{"type":"string","format":"k8s-short-name"},"n":{"type":"string","format":"mac"}}}}}`, `{"spec":{"a":"x","b":"x","c":"1.2.3","d":"x","e":"x","f":"2024-02-30","g":"*","h":"x","i":"1.2.3.4","j":"x","k":"-a","l":"1.2.3.4","m":"A","n":"x"}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string","format":"uuid"},"b":{"type":"string","format":"date-time"},"c":{"type":"string","format":"ipv4"},"d":{"type":"string","format":"email"},"f":{"type":"string","format":"date"},"g":{"type":"string","format":"byte"},"h":{"type":"string","format":"duration"},"i":{"type":"string","format":"cidr"},"j":{"type":"string","format":"uri"},"k":{"type":"string","format":"hostname"},"l":{"type":"string","format":"ipv6"},"m":{"type":"string","format":"k8s-long-name"},"n":{"type":"string","format":"mac"}}}}}`, `{"spec":{"a":"123e4567-e89b-12d3-a456-426614174000","b":"2024-02-29T01:02:03.5+02:00","c":"10.0.0.1","d":"a.b@c.de","f":"2024-02-29","g":"YWJj","h":"1h30m","i":"10.0.0.0/8","j":"https://a.b/c?d=e","k":"a-b.example.com","l":"::1","m":"a-b.c","n":"01:23:45:67:89:ab"}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer","default":3},"b":{"type":"object","default":{"x":1},"properties":{"x":{"type":"integer"},"y":{"type":"string","default":"z"}}},"c":{"type":"string","nullable":true,"default":"n"},"d":{"type":"string","default":"m"},"e":{"type":"array","items":{"type":"object","properties":{"f":{"type":"integer","default":7}}}},"g":{"type":"object","additionalProperties":{"type":"object","properties":{"h":{"type":"boolean","default":true}}}},"n":{"type":"string"}}}}}`, `{"spec":{"c":null,"d":null,"e":[{},{"f":1},null],"g":{"x":{},"y":null},"n":null}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"type":"object","properties":{"b":{"type":"string"}}},"l":{"type":"array","items":{"type":"object"}}}},"open":{"type":"object","additionalProperties":true},"raw":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},"shut":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"spec":{"type":"object"}}}}}`, `{"apiVersion":"a/v1","kind":"A","metadata":{"name":"x"},"spec":{"u":{"v":1},"a":{"b":"x","c":1},"l":[{"m":1}]},"open":{"a":1,"b":{"c":1}},"raw":{"kind":"Pod","foo":1},"shut":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"y"},"foo":1,"spec":{"bar":1}}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"x-kubernetes-int-or-string":true},"b":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}],"pattern":"^x"},"c":{"x-kubernetes-int-or-string":true}}}}}`, `{"spec":{"a":true,"b":"y","c":1.5}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"oneOf":[{"required":["a"]},{"required":["b"]}]}}}`, `{"spec":{"a":"x","b":1}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"oneOf":[{"required":["a"]},{"required":["b"]}]}}}`, `{"spec":{}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"anyOf":[{"required":["a"],"properties":{"a":{"minLength":2}}},{"required":["b"],"properties":{"b":{"minimum":5}}}]}}}`, `{"spec":{"a":"x"}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"allOf":[{"required":["a"]},{"required":["b"]},{"not":{"required":["c"]}}]}}}`, `{"spec":{"a":"x"}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"}},"not":{"required":["a"]}}}}`, `{"spec":{"a":"x"}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"s":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},"m":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}},"n":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k","l"],"items":{"type":"object","properties":{"k":{"type":"string","default":"d"},"l":{"type":"integer","default":1}}}}}}}}`, `{"spec":{"s":["a","b","a","a"],"m":[{"k":"x"},{"k":"x"},{}],"n":[{"k":"a","l":1},{"k":"a"},{"k":"b"}]}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"r":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}}}}`, `{"spec":{"r":{"apiVersion":"a/b/c","kind":"Foo_","metadata":{"name":"A/b","namespace":"B","labels":{"a b":"c d"}}}}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"r":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}}}}`, `{"spec":{"r":{"kind":""}}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string","maxLength":2},"b":{"type":"string","maxLength":2},"l":{"type":"array","items":{"type":"string","maxLength":1}},"m":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"v":{"type":"integer","maximum":1}}}}}}}}`, `{"spec":{"a":"xxx","b":"yyyy","l":["zz","z"],"m":[{"k":"b","v":5},{"k":"a","v":3}]}}`, `{"spec":{"a":"xxx","b":"yyy","l":["zz"],"m":[{"k":"a","v":3},{"k":"b","v":4}]}}`},
	{`{"type":"object","properties":{"spec":{"type":"object","properties":{"e":{"type":"integer","enum":[1,2]},"n":{"type":"string","nullable":true,"enum":["a"]},"f":{"type":"number","enum":[1.5]}}}}}`, `{"spec":{"e":3,"n":null,"f":1}}`, ``},
	{`{"type":"object","properties":{"spec":{"type":"object","additionalProperties":{"type":"integer"}},"x":{"type":"object","additionalProperties":false}},"required":["y"]}`, `{"spec":{"a":"b","c":1},"x":{"z":1}}`, ``},
}

func internalSchema(text string) *apiextensions.JSONSchemaProps {
	v1 := &apiextensionsv1.JSONSchemaProps{}
	if err := json.Unmarshal([]byte(text), v1); err != nil {
		panic(err)
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1, internal, nil); err != nil {
		panic(err)
	}
	return internal
}

func texts(errors field.ErrorList) []string {
	list := []string{}
	for _, e := range errors {
		list = append(list, e.Error())
	}
	sort.Strings(list)
	return list
}

func parse(text string) map[string]any {
	value := map[string]any{}
	if err := utiljson.Unmarshal([]byte(text), &value); err != nil {
		panic(err)
	}
	return value
}

func merge(object, change map[string]any) {
	for k, v := range change {
		inner, ok := v.(map[string]any)
		if old, both := object[k].(map[string]any); ok && both {
			merge(old, inner)
		} else {
			object[k] = v
		}
	}
}

func definition(change string) m {
	const good = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","names":{"plural":"foos","kind":"Foo"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`
	object := parse(good)
	merge(object, parse(change))
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	v1 := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(text, v1); err != nil {
		panic(err)
	}
	scheme.Default(v1)
	for _, v := range v1.Spec.Versions {
		if v.Storage {
			v1.Status.StoredVersions = []string{v.Name}
			break
		}
	}
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(v1, internal, nil); err != nil {
		panic(err)
	}
	return m{"object": v1, "errors": texts(crdvalidation.ValidateCustomResourceDefinition(context.Background(), internal))}
}

func resource(c [3]string) m {
	ctx := context.Background()
	props := internalSchema(c[0])
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		panic(err)
	}
	object := parse(c[1])
	out := m{"schema": json.RawMessage(c[0]), "object": json.RawMessage(c[1])}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, structural)
	defaulting.Default(object, structural)
	unknown := pruning.PruneWithOptions(object, structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if unknown == nil {
		unknown = []string{}
	}
	out["unknown"], out["decoded"] = unknown, object
	validator, _, err := apiservervalidation.NewSchemaValidator(props)
	if err != nil {
		panic(err)
	}
	var errors field.ErrorList
	if c[2] == "" {
		errors = apiservervalidation.ValidateCustomResource(nil, object, validator)
	} else {
		out["old"] = json.RawMessage(c[2])
		errors = apiservervalidation.ValidateCustomResourceUpdate(nil, object, parse(c[2]), validator, apiservervalidation.WithRatcheting(nil))
	}
	errors = append(errors, objectmeta.Validate(ctx, nil, object, structural, false)...)
	errors = append(errors, listtype.ValidateListSetsAndMaps(nil, structural, object)...)
	out["errors"] = texts(errors)
	return out
}

func customResources(add func(string, m)) {
	for i, text := range schemas {
		status := ""
		if i%2 == 1 {
			status = `,"subresources":{"status":{}}`
		}
		add("definitions", definition(`{"spec":{"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":`+text+`}`+status+`}]}}`))
	}
	for _, change := range definitions {
		add("definitions", definition(change))
	}
	for _, c := range resources {
		add("resources", resource(c))
	}
}
