// Prints, as JSON, the facts of the Kubernetes API types that `cargo xtask schema` packs into the api crate's table:
// what reflection over the published Go types tells (JSON and protobuf field tags, patch tags, shapes) joined with what
// the published OpenAPI definitions tell (required, enums, defaults, list types). No descriptions.
package main

import (
	"encoding/json"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	discoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// Shape is the form of one value.
type Shape struct {
	Kind string `json:"kind"`
	// Go is the type as Go's decoder names it in errors.
	Go      string `json:"go"`
	Pointer bool   `json:"pointer,omitempty"`
	// Wrapped lists are a message with one repeated field.
	Wrapped bool   `json:"wrapped,omitempty"`
	Elem    *Shape `json:"elem,omitempty"`
	Ref     string `json:"ref,omitempty"`
}

// Field is one field of a struct.
type Field struct {
	Name      string   `json:"name"`
	Go        string   `json:"go"`
	Inline    bool     `json:"inline,omitempty"`
	OmitEmpty bool     `json:"omitEmpty,omitempty"`
	OmitZero  bool     `json:"omitZero,omitempty"`
	Number    int      `json:"number,omitempty"`
	Wire      string   `json:"wire,omitempty"`
	Shape     *Shape   `json:"shape"`
	Required  bool     `json:"required,omitempty"`
	Default   any      `json:"default,omitempty"`
	HasDef    bool     `json:"hasDefault,omitempty"`
	Enum      []any    `json:"enum,omitempty"`
	Format    string   `json:"format,omitempty"`
	ListType  string   `json:"listType,omitempty"`
	MapType   string   `json:"mapType,omitempty"`
	MapKeys   []string `json:"mapKeys,omitempty"`
	Strategy  string   `json:"strategy,omitempty"`
	MergeKey  string   `json:"mergeKey,omitempty"`
}

// Type is one struct.
type Type struct {
	Name    string `json:"name"`
	Go      string `json:"go"`
	MapType string `json:"mapType,omitempty"`
	Unions  any    `json:"unions,omitempty"`
	// Kinds are "group/version/kind" as the Go scheme registers them.
	Kinds  []string `json:"kinds,omitempty"`
	Fields []*Field `json:"fields"`
}

var leaves = map[reflect.Type]string{
	reflect.TypeFor[resource.Quantity]():                            "quantity",
	reflect.TypeFor[metav1.Time]():                                  "time",
	reflect.TypeFor[metav1.MicroTime]():                             "microTime",
	reflect.TypeFor[metav1.Duration]():                              "duration",
	reflect.TypeFor[metav1.FieldsV1]():                              "fieldsV1",
	reflect.TypeFor[intstr.IntOrString]():                           "intOrString",
	reflect.TypeFor[runtime.RawExtension]():                         "rawExtension",
	reflect.TypeFor[apiextensionsv1.JSON]():                         "json",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrArray]():       "schemaOrArray",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrBool]():        "schemaOrBool",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrStringArray](): "schemaOrStringArray",
	reflect.TypeFor[runtime.Object]():                               "rawExtension",
}

func modelName(t reflect.Type) string {
	path := strings.TrimPrefix(t.PkgPath(), "k8s.io/")
	return "io.k8s." + strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

var types = map[string]*Type{}
var definitions map[string]common.OpenAPIDefinition

func shape(t reflect.Type) *Shape {
	s := &Shape{Go: t.String()}
	if t.Kind() == reflect.Pointer {
		s = shape(t.Elem())
		s.Pointer = true
		return s
	}
	if kind, ok := leaves[t]; ok {
		s.Kind = kind
		if strings.HasPrefix(kind, "schemaOr") {
			walk(reflect.TypeFor[apiextensionsv1.JSONSchemaProps]())
			s.Ref = modelName(reflect.TypeFor[apiextensionsv1.JSONSchemaProps]())
		}
		return s
	}
	switch t.Kind() {
	case reflect.String:
		s.Kind = "string"
	case reflect.Bool:
		s.Kind = "bool"
	case reflect.Int32, reflect.Uint32, reflect.Uint8, reflect.Int16:
		s.Kind = "int32"
	case reflect.Int64, reflect.Int, reflect.Uint64:
		s.Kind = "int64"
	case reflect.Float64, reflect.Float32:
		s.Kind = "double"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			s.Kind = "bytes"
			return s
		}
		s.Kind = "list"
		s.Elem = shape(t.Elem())
		if _, ok := reflect.PointerTo(t).MethodByName("Marshal"); ok && t.PkgPath() != "" {
			s.Wrapped = true
		}
	case reflect.Map:
		s.Kind = "map"
		s.Elem = shape(t.Elem())
	case reflect.Struct:
		s.Kind = "ref"
		s.Ref = modelName(t)
		walk(t)
	case reflect.Interface:
		s.Kind = "any"
	default:
		panic(t.String())
	}
	return s
}

func extension(e spec.Extensions, key string) string {
	s, _ := e.GetString(key)
	return s
}

func walk(t reflect.Type) {
	name := modelName(t)
	if _, ok := types[name]; ok {
		return
	}
	out := &Type{Name: name, Go: t.String(), Fields: []*Field{}}
	types[name] = out
	definition := definitions[name].Schema
	out.MapType = extension(definition.Extensions, "x-kubernetes-map-type")
	out.Unions = definition.Extensions["x-kubernetes-unions"]
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		parts := strings.Split(f.Tag.Get("json"), ",")
		if parts[0] == "-" && len(parts) == 1 {
			continue
		}
		field := &Field{Name: parts[0], Go: f.Name, Shape: shape(f.Type)}
		for _, option := range parts[1:] {
			switch option {
			case "inline":
				field.Inline = true
			case "omitempty":
				field.OmitEmpty = true
			case "omitzero":
				field.OmitZero = true
			default:
				panic(option)
			}
		}
		if field.Name == "" {
			if f.Anonymous {
				field.Inline = true
			} else {
				field.Name = f.Name
			}
		}
		if tag := f.Tag.Get("protobuf"); tag != "" && tag != "-" {
			p := strings.Split(tag, ",")
			field.Wire = p[0]
			n, err := strconv.Atoi(p[1])
			if err != nil {
				panic(err)
			}
			field.Number = n
		}
		field.Strategy = f.Tag.Get("patchStrategy")
		field.MergeKey = f.Tag.Get("patchMergeKey")
		if !field.Inline {
			for _, r := range definition.Required {
				if r == field.Name {
					field.Required = true
				}
			}
			property, ok := definition.Properties[field.Name]
			if ok {
				field.Default, field.HasDef = property.Default, property.Default != nil
				field.Enum = property.Enum
				field.Format = property.Format
				field.ListType = extension(property.Extensions, "x-kubernetes-list-type")
				field.MapType = extension(property.Extensions, "x-kubernetes-map-type")
				if keys, ok := property.Extensions["x-kubernetes-list-map-keys"].([]interface{}); ok {
					for _, k := range keys {
						field.MapKeys = append(field.MapKeys, k.(string))
					}
				}
			}
		}
		out.Fields = append(out.Fields, field)
	}
}

func main() {
	definitions = openapi.GetOpenAPIDefinitions(func(path string) spec.Ref { return spec.MustCreateRef("#/definitions/" + path) })
	for _, add := range []func(*runtime.Scheme) error{
		apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme, admissionv1.AddToScheme, discoveryv2.AddToScheme,
	} {
		if err := add(scheme.Scheme); err != nil {
			panic(err)
		}
	}
	kinds := map[string][]string{}
	for gvk, t := range scheme.Scheme.AllKnownTypes() {
		if t.Kind() == reflect.Struct && t.Name() != "InternalEvent" && gvk.Version != "__internal" {
			walk(t)
			kinds[modelName(t)] = append(kinds[modelName(t)], gvk.Group+"/"+gvk.Version+"/"+gvk.Kind)
		}
	}
	for _, v := range []any{
		metav1.Table{}, metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadataList{}, metav1.Status{}, metav1.APIGroupList{}, metav1.APIResourceList{},
		metav1.APIVersions{}, metav1.List{}, metav1.TypeMeta{}, metav1.ObjectMeta{}, metav1.WatchEvent{}, metav1.TableOptions{},
		metav1.GroupVersionKind{}, runtime.TypeMeta{}, runtime.Unknown{},
	} {
		walk(reflect.TypeOf(v))
	}
	list := []*Type{}
	for _, t := range types {
		t.Kinds = kinds[t.Name]
		sort.Strings(t.Kinds)
		list = append(list, t)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	encoder := json.NewEncoder(os.Stdout)
	if err := encoder.Encode(list); err != nil {
		panic(err)
	}
}
