/// Texts of the built-in dashboards in Korean.
export const words: Readonly<Record<string, string>> = {
  Gateway: "게이트웨이", Requests: "요청", Errors: "오류", "Latency p95": "지연 p95", "In flight": "처리 중", "Requests by route": "라우트별 요청", "Answers by status": "상태 코드별 응답",
  "Errors by backend": "백엔드별 오류", Latency: "지연", "Latency of requests": "요청 지연 분포", "Latency p95 by backend": "백엔드별 지연 p95", "Routes and backends": "라우트와 백엔드",
  Route: "라우트", Backend: "백엔드", "Tried again, and attempts that failed": "재시도와 실패한 시도", "tried again": "재시도", "failed attempts": "실패한 시도", Namespace: "네임스페이스",
  Workload: "워크로드", Pods: "파드", Ready: "준비됨", Restarts: "재시작", "CPU of what was asked for": "요청 대비 CPU", "Memory of its limit": "제한 대비 메모리", Memory: "메모리",
  "CPU held back by limits": "제한에 걸린 CPU", Network: "네트워크", received: "수신", sent: "송신", Pod: "파드",
  Node: "노드", "Pressure (waiting, share of time)": "압박 (대기한 시간의 비율)", Disk: "디스크", "Up for": "가동 시간", Load: "부하", "CPU by mode": "모드별 CPU", "in use": "사용 중", cache: "캐시", all: "전체",
  read: "읽기", written: "쓰기", Filesystems: "파일 시스템", Where: "위치", Size: "크기", "In use": "사용률", "Pods that use most CPU": "CPU를 가장 많이 쓰는 파드",
  Cluster: "클러스터", "Nodes ready": "준비된 노드", "Pods running": "실행 중인 파드", "Pods waiting or failed": "대기 또는 실패한 파드", "Alerts firing": "발생한 알림", "CPU in use": "CPU 사용률", "Memory in use": "메모리 사용률",
  "CPU by namespace": "네임스페이스별 CPU", "Memory by namespace": "네임스페이스별 메모리", "Network received by namespace": "네임스페이스별 수신", "Network sent by namespace": "네임스페이스별 송신", Namespaces: "네임스페이스",
  "CPU asked for": "요청한 CPU", "Memory asked for": "요청한 메모리", "API server": "API 서버", "Requests by verb": "동사별 요청", "Duration of requests": "요청 처리 시간",
  Pipelines: "파이프라인", "Runs on their way": "진행 중인 실행", "Also those that wait for a person": "사람을 기다리는 것도 포함합니다", "Runs that wait": "대기 중인 실행", "Runs that have ended": "끝난 실행", "Share that went well": "성공 비율",
  "Runs ended a minute, by result": "분당 끝난 실행, 결과별", "How long runs take": "실행 소요 시간", "The median, and what one run in twenty exceeds": "중앙값, 그리고 실행 스무 번에 한 번 넘는 값", "Runs with agents": "에이전트가 있는 실행", Agents: "에이전트", "CPU of agents": "에이전트 CPU", "Memory of agents": "에이전트 메모리",
  "Agents by phase": "단계별 에이전트", "Time until an agent was ready": "에이전트 준비 시간", "Of the slowest agent of each run": "실행마다 가장 느린 에이전트", "CPU by run": "실행별 CPU", "Memory by run": "실행별 메모리", "CPU held back by limits, by run": "제한에 걸린 CPU, 실행별",
  "Network by run": "실행별 네트워크", "Agents now": "현재 에이전트", Run: "실행", Pipeline: "파이프라인",
};
