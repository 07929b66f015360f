/// Kubernetes' objects, as far as pages read them.
export interface Meta {
  name: string; namespace?: string; uid: string; resourceVersion?: string; creationTimestamp?: string; deletionTimestamp?: string;
  labels?: Record<string, string>; annotations?: Record<string, string>; generation?: number;
  ownerReferences?: { kind: string; name: string; uid: string; controller?: boolean }[];
}
export interface Thing { apiVersion?: string; kind?: string; metadata: Meta }
export interface Condition { type: string; status: string; reason?: string; message?: string; lastTransitionTime?: string }
export interface ContainerSpec {
  name: string; image?: string; ports?: { containerPort: number; name?: string; protocol?: string }[];
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> }; restartPolicy?: string;
}
export interface ContainerState {
  waiting?: { reason?: string; message?: string }; running?: { startedAt?: string };
  terminated?: { exitCode: number; reason?: string; message?: string; startedAt?: string; finishedAt?: string };
}
export interface ContainerStatus { name: string; ready: boolean; restartCount: number; image: string; imageID?: string; state?: ContainerState; lastState?: ContainerState; started?: boolean }
export interface Pod extends Thing {
  spec: { nodeName?: string; containers: ContainerSpec[]; initContainers?: ContainerSpec[]; serviceAccountName?: string; restartPolicy?: string };
  status?: {
    phase?: string; reason?: string; message?: string; podIP?: string; startTime?: string; qosClass?: string; conditions?: Condition[];
    containerStatuses?: ContainerStatus[]; initContainerStatuses?: ContainerStatus[];
  };
}
export interface Node extends Thing {
  spec: { unschedulable?: boolean };
  status?: {
    conditions?: Condition[]; capacity?: Record<string, string>; allocatable?: Record<string, string>;
    nodeInfo?: { kubeletVersion?: string; osImage?: string; kernelVersion?: string; architecture?: string };
    images?: { names?: string[]; sizeBytes?: number }[]; addresses?: { type: string; address: string }[];
  };
}
export interface Workload extends Thing {
  spec: {
    replicas?: number; selector?: { matchLabels?: Record<string, string> }; template?: { spec: { containers: ContainerSpec[] } };
    schedule?: string; suspend?: boolean; completions?: number; strategy?: { type?: string }; updateStrategy?: { type?: string };
    jobTemplate?: { spec?: { template?: { spec: { containers: ContainerSpec[] } } } };
  };
  status?: {
    replicas?: number; readyReplicas?: number; updatedReplicas?: number; availableReplicas?: number; observedGeneration?: number;
    desiredNumberScheduled?: number; numberReady?: number; updatedNumberScheduled?: number; succeeded?: number; failed?: number; active?: number | unknown[];
    conditions?: Condition[]; lastScheduleTime?: string;
  };
}
export interface Event extends Thing {
  type?: string; reason?: string; message?: string; count?: number; firstTimestamp?: string; lastTimestamp?: string; eventTime?: string;
  series?: { count?: number; lastObservedTime?: string }; involvedObject?: { kind?: string; name?: string; namespace?: string; uid?: string };
}
export const eventTime = (event: Event) => event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp;
